"use strict";
// Draws the charts from the figures in the page; drawn again when the width or the colour scheme changes.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  function bytes(count) {
    let unit = 0;
    while (Math.abs(count) >= 999.5 && unit < UNITS.length - 1) { count /= 1000; unit += 1; }
    return `${unit === 0 || count >= 100 ? Math.round(count) : Number(count.toPrecision(3))} ${UNITS[unit]}`;
  }
  function seconds(value) {
    if (value === 0) return "0";
    if (value < 0.95) return `${Number((value * 1000).toPrecision(2))} ms`;
    if (value < 9.95) return `${value.toFixed(1)} s`;
    if (value < 119.5) return `${Math.round(value)} s`;
    return value < 5400 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
  }
  const percent = (value) => value === 0 ? "0" : `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
  const common = (width, more) => ({
    width, style: {fontSize: "13px", background: "none", color: colour("ink"), fontFamily: "inherit", fontVariant: "tabular-nums"}, ...more,
  });

  const charts = {
    payload(width) {
      const rows = [...data.formats].sort((a, b) => b.bytes - a.bytes);
      const narrow = width < 560;
      const most = Math.max(...rows.map((d) => d.high ?? d.ratio));
      return Plot.plot(common(width, {
        height: rows.length * 25 + 40, marginLeft: narrow ? 128 : 160, marginRight: narrow ? 58 : 150, marginTop: 8, marginBottom: 30,
        x: {domain: [0, most], label: null, tickFormat: percent, ticks: narrow ? 3 : 8, grid: true},
        y: {domain: rows.map((d) => d.key), label: null, tickFormat: (key) => rows.find((d) => d.key === key).label, tickSize: 0, padding: 0.22},
        marks: [
          Plot.barX(rows, {x: "ratio", y: "key", fill: (d) => colour(d.family), fillOpacity: (d) => (d.held >= data.nearly_all ? 1 : 0.45)}),
          Plot.ruleY(rows.filter((d) => d.low !== null && d.high > d.low), {y: "key", x1: "low", x2: "high", stroke: colour("ink"), strokeWidth: 1.2}),
          Plot.text(rows, {x: (d) => Math.max(d.ratio, d.high ?? 0), y: "key", dx: 6, textAnchor: "start", fill: colour("ink"),
            text: (d) => (narrow ? percent(d.ratio) : `${bytes(d.bytes)}  ${percent(d.ratio)}${d.held > 0.995 ? "" : `, holds ${percent(d.held)}`}`)}),
          Plot.ruleX([0], {stroke: colour("line")}),
        ],
      }));
    },

    transfer(width) {
      if (!data.transfers.length) return null;
      const order = data.transfers.filter((d) => d.link === data.links[0]).sort((a, b) => b.bytes - a.bytes).map((d) => d.label);
      const narrow = width < 560;
      const box = document.createElement("div");
      for (const link of data.links) {
        const rows = data.transfers.filter((d) => d.link === link);
        const most = Math.max(...rows.map((d) => d.total));
        const shows = data.gives_up < most * 1.6;
        const title = document.createElement("h3");
        title.textContent = link;
        box.append(title, Plot.plot(common(width, {
          height: rows.length * 22 + 44, marginLeft: narrow ? 128 : 160, marginRight: 64, marginTop: 22, marginBottom: 24,
          x: {domain: [0, Math.max(most, shows ? data.gives_up * 1.05 : 0)], label: null, tickFormat: seconds, ticks: narrow ? 2 : 6, grid: true},
          y: {domain: order, label: null, tickSize: 0, padding: 0.22},
          marks: [
            Plot.barX(rows, {x: "seconds", y: "label", fill: (d) => colour(family(d.format))}),
            Plot.barX(rows, {x1: "seconds", x2: "total", y: "label", fill: (d) => colour(family(d.format)), fillOpacity: 0.45}),
            Plot.text(rows, {x: "total", y: "label", dx: 6, textAnchor: "start", text: (d) => seconds(d.total), stroke: colour("card"), strokeWidth: 4, fill: (d) => colour(d.total > data.gives_up ? "bad" : "ink")}),
            ...(shows ? [
              Plot.ruleX([data.gives_up], {stroke: colour("bad"), strokeDasharray: "4 3"}),
              Plot.text([data.gives_up], {x: (d) => d, frameAnchor: "top", dy: -14, text: () => "the doctor gives up", fill: colour("bad"), textAnchor: data.gives_up > most * 0.7 ? "end" : "start"}),
            ] : []),
          ],
        })));
        if (!shows) {
          const note = document.createElement("p");
          note.className = "soft small";
          note.textContent = `Everything arrives long before ${data.gives_up} seconds.`;
          box.append(note);
        }
      }
      return box;
    },

    encode: (width) => scatter(width, "encode"),
    decode: (width) => scatter(width, "decode"),

    modality(width) {
      if (!data.modalities.length) return null;
      const labels = [...new Set(data.modalities.map((d) => d.label))];
      const palette = {"as found": "baseline", "gzip -6": "general", [data.best]: "leanpacs"};
      const shade = (label) => colour(palette[label] ?? "image");
      const symbols = {"JPEG-LS": "diamond", HTJ2K: "triangle"};
      const names = [...new Set(data.modalities.map((d) => d.name))];
      const most = Math.max(1, ...data.modalities.map((d) => d.ratio));
      const box = document.createElement("div");
      const keys = document.createElement("div");
      keys.className = "keys";
      for (const label of labels) {
        const key = document.createElement("span");
        const mark = document.createElement("i");
        mark.style.background = shade(label);
        mark.style.borderRadius = symbols[label] ? "0" : "50%";
        mark.style.transform = symbols[label] === "diamond" ? "rotate(45deg) scale(.8)" : "";
        if (symbols[label] === "triangle") mark.style.clipPath = "polygon(50% 0, 100% 100%, 0 100%)";
        key.append(mark, label);
        keys.append(key);
      }
      box.append(keys, Plot.plot(common(width, {
        height: names.length * 30 + 46, marginLeft: 76, marginRight: 16, marginTop: 8, marginBottom: 30,
        x: {domain: [0, Math.min(most, 3)], label: null, tickFormat: percent, grid: true, ticks: width < 560 ? 4 : 10, clamp: true},
        y: {domain: names, label: null, tickSize: 0},
        marks: [
          Plot.ruleX([1], {stroke: colour("soft"), strokeDasharray: "2 3"}),
          Plot.ruleY(names, {stroke: colour("line")}),
          Plot.dot(data.modalities, {x: "ratio", y: "name", fill: (d) => shade(d.label), r: 5.5, stroke: colour("card"), strokeWidth: 1,
            symbol: (d) => symbols[d.label] ?? "circle", title: (d) => `${d.name}, ${d.label}: ${percent(d.ratio)} of raw`}),
        ],
        symbol: {type: "identity"},
      })));
      return box;
    },

    lossy(width) {
      return multiples(width, data.lossy.map((d) => ({modality: d.modality, x: d.ratio, y: d.windowed_ssim, z: d.family,
        name: `${d.family} ${d.setting}: ${percent(d.ratio)} of raw, SSIM ${d.windowed_ssim.toFixed(4)}`})), "part of raw");
    },

    progressive(width) {
      return multiples(width, data.progressive.flatMap((d) => d.stages.map((s) => ({modality: d.modality, x: s.received, y: s.ssim, z: d.label,
        name: `${d.label}: ${percent(s.received)} of raw, SSIM ${s.ssim.toFixed(4)}`}))), "bytes received, part of the raw frame");
    },
  };

  const family = (key) => data.formats.find((d) => d.key === key).family;

  function scatter(width, kind) {
    const rows = data.formats.filter((d) => d[kind]);
    if (!rows.length) return null;
    const front = rows.filter((d) => d.front.includes(kind)).sort((a, b) => a[kind] - b[kind]);
    const labelled = placed(rows, kind, width);
    return Plot.plot(common(width, {
      height: 390, marginLeft: 48, marginRight: 84, marginTop: 28, marginBottom: 40,
      x: {type: "log", label: "MB/s, one core →", grid: true, ticks: 4, tickFormat: (d) => String(d), labelAnchor: "right", nice: true},
      y: {label: "↑ of raw", tickFormat: percent, grid: true, nice: true, zero: false},
      marks: [
        Plot.line(front, {x: kind, y: "ratio", stroke: colour("leanpacs"), strokeOpacity: 0.5, strokeWidth: 2}),
        Plot.dot(rows, {x: kind, y: "ratio", fill: (d) => colour(d.family), r: (d) => (d.front.includes(kind) ? 6 : 4), fillOpacity: (d) => (d.held >= data.nearly_all ? 1 : 0.45),
          title: (d) => `${d.label}: ${percent(d.ratio)} of raw, ${kind} ${Math.round(d[kind])} MB/s`}),
        Plot.text(labelled, {x: kind, y: "ratio", text: "label", dx: 9, dy: 0, textAnchor: "start", fill: colour("ink"), fontSize: 11.5, stroke: colour("card"), strokeWidth: 3, paintOrder: "stroke"}),
      ],
    }));
  }

  // Labels of dots that stand too close would cover each other: those off the front give way (their titles remain).
  function placed(rows, kind, width) {
    const low = Math.min(...rows.map((d) => d.ratio)), high = Math.max(...rows.map((d) => d.ratio));
    const slow = Math.log(Math.min(...rows.map((d) => d[kind]))), fast = Math.log(Math.max(...rows.map((d) => d[kind])));
    const across = (width - 124) / Math.max(fast - slow, 0.1), down = 320 / Math.max(high - low, 0.001);
    const taken = [];
    const sorted = [...rows].sort((a, b) => b.front.includes(kind) - a.front.includes(kind) || a.ratio - b.ratio);
    return sorted.filter((d) => {
      const left = (Math.log(d[kind]) - slow) * across, top = (high - d.ratio) * down, right = left + 14 + 6.6 * d.label.length;
      const clashes = taken.some((one) => left < one.right && one.left < right && Math.abs(one.top - top) < 13);
      if (!clashes) taken.push({left, right, top});
      return !clashes;
    });
  }

  // One chart for each of the modalities with most bytes, all with the same colours.
  function multiples(width, points, label) {
    const known = data.modalities.map((d) => d.name);
    const modalities = [...new Set([...known, ...points.map((d) => d.modality)])].filter((name) => points.some((d) => d.modality === name)).slice(0, 4);
    if (!modalities.length) return null;
    const names = [...new Set(points.map((d) => d.z))].sort();
    const shades = names.map((_, at) => colour(["leanpacs", "image", "general", "web", "bad", "soft"][at % 6]));
    const box = document.createElement("div");
    const keys = document.createElement("div");
    keys.className = "keys";
    names.forEach((name, at) => {
      const key = document.createElement("span");
      const mark = document.createElement("i");
      mark.style.background = shades[at];
      key.append(mark, name);
      keys.append(key);
    });
    const grid = document.createElement("div");
    grid.className = "pair";
    const each = modalities.length > 1 && width > 740 ? (width - 32) / 2 : width;
    for (const modality of modalities) {
      const ours = points.filter((d) => d.modality === modality);
      const low = Math.max(0, Math.min(0.88, ...ours.map((d) => d.y)));
      const part = document.createElement("div");
      const title = document.createElement("h3");
      title.textContent = modality;
      part.append(title, Plot.plot(common(each, {
        height: 300, marginLeft: 48, marginRight: 20, marginTop: 26, marginBottom: 40,
        x: {type: "log", label: `${label} →`, tickFormat: (d) => `${Number((100 * d).toPrecision(2))} %`, ticks: 3, grid: true},
        y: {label: "↑ SSIM, windowed", domain: [low, 1], grid: true},
        color: {domain: names, range: shades},
        marks: [
          ...[0.9, 0.98].filter((y) => y >= low).map((y) => Plot.ruleY([y], {stroke: colour("soft"), strokeDasharray: "2 3"})),
          Plot.line(ours, {x: "x", y: "y", z: "z", stroke: "z", strokeWidth: 1.8, sort: "x"}),
          Plot.dot(ours, {x: "x", y: "y", fill: "z", r: 3.5, title: "name"}),
        ],
      })));
      grid.append(part);
    }
    box.append(keys, grid);
    return box;
  }

  function draw() {
    for (const [id, make] of Object.entries(charts)) {
      const place = document.getElementById(id);
      if (!place) continue;
      const chart = make(Math.max(280, Math.min(place.clientWidth || 640, 1080)));
      place.replaceChildren(...(chart ? [chart] : []));
    }
  }

  let drawn = 0;
  new ResizeObserver(() => {
    const width = document.querySelector("main").clientWidth;
    if (width !== drawn) { drawn = width; draw(); }
  }).observe(document.querySelector("main"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => { document.querySelectorAll("details").forEach((one) => { one.open = true; }); });
})();
