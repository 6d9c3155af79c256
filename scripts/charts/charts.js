// What the report page uses of Observable Plot; everything else is left out of the bundle.
export {plot, barX, dot, line, ruleX, ruleY, text, tickX, tip, pointer} from "@observablehq/plot";
