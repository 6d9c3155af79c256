"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const policies = data.policies;
  const months = policies[0].sent.length;
  const colours = {domain: policies.map((one) => one.name), range: policies.map((one) => one.colour)};
  const partColour = (parts) => ({domain: parts, range: parts.map((_, index) => `var(--part-${(index % 6) + 1})`)});
  const style = {fontSize: "12px", fontFamily: "inherit", background: "transparent", color: "inherit"};

  // A unit that fits the largest value, and how to write values in it.
  const units = (largest) => {
    const names = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let power = 0;
    while (largest >= 1000 && power < names.length - 1) { largest /= 1000; power += 1; }
    return {name: names[power], factor: 1000 ** power};
  };
  const short = (value) => {
    for (const [factor, name] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (Math.abs(value) >= factor) return `${+(value / factor).toPrecision(3)}${name}`;
    }
    return `${+value.toPrecision(3)}`;
  };
  const most = (values) => values.reduce((a, b) => Math.max(a, b), 0);

  const keys = (target, domain, range) => {
    const list = document.createElement("div");
    list.className = "keys";
    domain.forEach((name, index) => {
      const item = document.createElement("span");
      const key = document.createElement("span");
      key.className = "key";
      key.style.background = range[index];
      item.append(key, name);
      list.append(item);
    });
    target.append(list);
  };

  const draw = (id, make) => {
    const target = document.getElementById(id);
    if (!target) return;
    target.replaceChildren();
    make(target, Math.max(280, target.clientWidth));
  };

  const lines = (target, width, series, label) => {
    const unit = units(most(series.flatMap((one) => one.values)));
    const points = series.flatMap((one) => one.values.map((value, index) => ({
      policy: one.policy, year: (index + one.offset) / 12, value: value / unit.factor})));
    keys(target, colours.domain, colours.range);
    target.append(Plot.plot({
      width, height: Math.min(360, 160 + width / 5), style, marginLeft: 44, marginRight: 12, marginBottom: 42,
      x: {label: "years →", labelOffset: 38, ticks: Math.min(data.years, 10), domain: [0, data.years]},
      y: {label: `↑ ${unit.name}${label}`, grid: true, zero: true, nice: true},
      color: colours,
      marks: [
        Plot.ruleY([0]),
        Plot.line(points, {x: "year", y: "value", stroke: "policy", strokeWidth: 2.25}),
        Plot.tip(points, Plot.pointer({x: "year", y: "value", stroke: "policy",
          title: (d) => `${d.policy}\nyear ${d.year.toFixed(1)}: ${d.value.toPrecision(3)} ${unit.name}`, fill: "var(--card)"})),
      ],
    }));
  };

  const facets = (width, name) => (width < 640
    ? {fy: {label: null, domain: colours.domain, axis: null}, channel: "fy", height: 150 * policies.length}
    : {fx: {label: null, domain: colours.domain, padding: 0.12}, channel: "fx", height: 320});

  // Names of facets stand above them, in both directions.
  const names = (facet) => Plot.text(policies, {
    [facet.channel]: "name", text: "name", frameAnchor: "top-left", dy: -14, fill: "var(--ink)", fontWeight: 600});

  const stacked = (target, width, bars, parts, yLabel, factor) => {
    const range = partColour(parts).range;
    keys(target, parts, range);
    const facet = facets(width);
    target.append(Plot.plot({
      width, height: facet.height, style, marginLeft: 48, marginRight: 6, marginTop: 28,
      ...(facet.fx ? {fx: {...facet.fx, axis: null}} : {fy: {...facet.fy, padding: 0.28}}),
      x: {label: null, tickFormat: (year) => (year === 1 || year % 5 === 0 ? `${year}` : ""), tickSize: 0},
      y: {label: yLabel, grid: true, zero: true, tickFormat: short, ticks: 4},
      color: partColour(parts),
      marks: [
        Plot.barY(bars, {[facet.channel]: "policy", x: "year", y: (d) => d.value / factor, fill: "part", insetLeft: 0.5, insetRight: 0.5,
          title: (d) => `${d.policy}, year ${d.year}\n${d.part}: ${short(d.value)}`}),
        Plot.ruleY([0]),
        names(facet),
      ],
    }));
  };

  const yearly = (key, parts) => policies.flatMap((one) => parts.flatMap((part) => (one[key][part] || []).map(
    (value, index) => ({policy: one.name, part, year: index + 1, value}))));
  const found = (key, parts) => parts.filter((part) => policies.some((one) => one[key][part]));

  const charts = {
    growth: (target, width) => lines(target, width, policies.map((one) => ({policy: one.name, values: one.stored, offset: 0})), " stored"),
    traffic: (target, width) => lines(target, width, policies.map((one) => ({policy: one.name, values: one.sent, offset: 1})), " a day"),
    tiers: (target, width) => {
      const tiers = [...new Set(policies.flatMap((one) => Object.keys(one.tiers)))];
      const unit = units(most(policies.flatMap((one) => one.stored)));
      const levels = policies.flatMap((one) => tiers.flatMap((tier) => (one.tiers[tier] || []).map(
        (value, month) => ({policy: one.name, part: tier, year: month / 12, value: value / unit.factor}))));
      const facet = facets(width);
      keys(target, tiers, partColour(tiers).range);
      target.append(Plot.plot({
        width, height: facet.height, style, marginLeft: 44, marginRight: 6, marginTop: 28,
        ...(facet.fx ? {fx: {...facet.fx, axis: null}} : {fy: {...facet.fy, padding: 0.28}}),
        x: {label: null, ticks: 3, domain: [0, data.years]},
        y: {label: `↑ ${unit.name}`, grid: true, zero: true, ticks: 4},
        color: partColour(tiers),
        marks: [
          Plot.areaY(levels, {[facet.channel]: "policy", x: "year", y: "value", fill: "part", order: tiers}),
          Plot.ruleY([0]),
          names(facet),
        ],
      }));
    },
    cost: (target, width) => {
      const parts = found("cost", data.costParts);
      stacked(target, width, yearly("cost", parts), parts, `↑ ${data.currency}`, 1);
    },
    hours: (target, width) => {
      const parts = found("hours", data.cpuParts);
      const totals = policies.flatMap((one) => parts.map((part) => ({
        policy: one.name, part, value: (one.hours[part] || [0]).at(-1)})));
      keys(target, parts, partColour(parts).range);
      target.append(Plot.plot({
        width, height: 70 + 34 * policies.length, style, marginLeft: 104, marginRight: 24, marginBottom: 42,
        x: {labelOffset: 38, label: `hours in year ${data.years} →`, grid: true, tickFormat: short, ticks: 4},
        y: {label: null, domain: colours.domain, tickSize: 0},
        color: partColour(parts),
        marks: [
          Plot.barX(totals, {y: "policy", x: "value", fill: "part", title: (d) => `${d.policy}, ${d.part}: ${short(d.value)} h`}),
          Plot.ruleX([0]),
        ],
      }));
    },
    waits: (target, width) => {
      keys(target, colours.domain, colours.range);
      const points = policies.flatMap((one) => one.waits.map((wait) => ({...wait, policy: one.name})));
      for (const site of [...new Set(points.map((one) => one.site))]) {
        const heading = document.createElement("h3");
        heading.textContent = site;
        target.append(heading);
        const here = points.filter((one) => one.site === site && one.seconds > 0);
        const modalities = [...new Set(here.map((one) => one.modality))];
        const limit = data.givesUpSeconds;
        const title = (d) => `${d.modality}, ${d.policy}: ${d.seconds < 10 ? d.seconds.toFixed(1) : d.seconds.toFixed(0)} s`;
        const number = (d) => colours.domain.indexOf(d.policy);
        target.append(Plot.plot({
          width, height: 76 + 30 * modalities.length, style, marginLeft: 54, marginRight: 24, marginBottom: 42,
          x: {type: "log", label: "seconds →", labelOffset: 38, insetLeft: 12, insetRight: 12, grid: true, tickFormat: (d) => (/^[125]/.test(`${d}`.replace(/^0\.0*/, "")) ? `${d}` : "")},
          y: {label: null, domain: modalities, tickSize: 0},
          color: colours,
          marks: [
            Plot.ruleX([limit], {stroke: "var(--warn)", strokeDasharray: "4 3"}),
            Plot.text([limit], {x: (d) => d, frameAnchor: "top", dy: -11, text: () => "people give up", fill: "var(--warn)"}),
            // Every other policy is a ring, so that equal times can be told apart.
            Plot.dot(here.filter((d) => !(number(d) % 2)), {x: "seconds", y: "modality", r: 8, stroke: "policy", strokeWidth: 2, title}),
            Plot.dot(here.filter((d) => number(d) % 2), {x: "seconds", y: "modality", r: 4.5, fill: "policy", title}),
          ],
        }));
      }
    },
  };

  const drawAll = () => Object.entries(charts).forEach(([id, make]) => draw(id, make));
  drawAll();
  let timer = 0;
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(timer);
    timer = setTimeout(drawAll, 150);
  });
  window.addEventListener("beforeprint", drawAll);
  document.documentElement.dataset.drawn = `${months}`;
})();
