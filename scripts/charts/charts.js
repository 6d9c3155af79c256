// What the report pages use of Observable Plot; everything else is left out of the bundle.
export {plot, areaY, barX, barY, dot, line, ruleX, ruleY, text, tickX, tip, pointer} from "@observablehq/plot";
