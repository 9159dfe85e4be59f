"use strict";
// Every number shown is looked up in the grid that Fit.predict was asked for; nothing is computed from draws here.
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, parent, text) {
  const svg = parent.namespaceURI === SVG || name === "svg";
  const node = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

const shown = (value) => (value === null ? "∞" : String(value));

class WhatIf {
  constructor(box) {
    this.data = JSON.parse(box.querySelector("script").textContent);
    this.axes = this.data.axes;
    this.at = this.axes.map((axis) => axis.start);
    let stride = 1;
    for (const axis of [...this.axes].reverse()) {
      axis.stride = stride;
      stride *= axis.values.length;
    }
    // The chart runs along tokens, or along sizes if the law knows no tokens.
    const runs = (name) => this.axes.findIndex((a) => a.name === name && a.values.length > 1);
    this.along = ["tokens", "n_params"].map(runs).find((i) => i >= 0);
    const controls = make("div", { class: "controls" }, box);
    this.axes.forEach((axis, i) => this.control(axis, i, controls));
    this.answer = make("p", { class: "answer", "aria-live": "polite" }, box);
    this.where = make("p", { class: "note" }, box);
    if (this.along !== undefined) {
      this.chart = make("svg", { class: "chart", role: "img" }, box);
      make("p", { class: "note" }, box, this.legend());
      // A frame in a notebook may get its width after this has run.
      new ResizeObserver(() => this.chart.parentElement.clientWidth !== this.width && this.draw()).observe(box);
    }
    this.show();
  }

  control(axis, i, controls) {
    const label = make("label", {}, controls, `${axis.label} `);
    const value = make("b", {}, label, axis.texts[axis.start]);
    if (axis.values.length < 2) return; // held
    const numeric = typeof axis.values[0] === "number";
    const attributes = { type: "range", min: 0, max: axis.values.length - 1, step: 1, value: axis.start };
    const input = make(numeric ? "input" : "select", numeric ? attributes : {}, label);
    input.name = axis.name;
    if (!numeric) {
      axis.texts.forEach((text, j) => make("option", { value: j }, input, text));
      input.value = axis.start;
    }
    input.setAttribute("aria-valuetext", axis.texts[axis.start]);
    input.addEventListener("input", () => {
      this.at[i] = Number(input.value);
      value.textContent = axis.texts[this.at[i]];
      input.setAttribute("aria-valuetext", axis.texts[this.at[i]]);
      this.show();
    });
  }

  legend() {
    const sizes = this.along !== undefined && this.axes.some((a, i) => a.name === "n_params" && i !== this.along);
    const dots = sizes ? "Dots: measured; filled: of sizes within a third of N." : "Dots: measured.";
    return `Line: median; bands: 50% and ${Math.round(this.data.ci_prob * 100)}%. ${dots} Dotted: the most measured.`;
  }

  place(at) {
    return this.axes.reduce((sum, axis, i) => sum + axis.stride * at[i], 0);
  }

  show() {
    const here = this.place(this.at);
    const { median, lower, upper, inner_lower, inner_upper } = this.data.quantiles;
    this.answer.replaceChildren();
    this.answer.append(`${this.data.response} `);
    make("b", { class: "median-shown" }, this.answer, shown(median[here]));
    const percent = Math.round(this.data.ci_prob * 100);
    this.answer.append(` · ${percent}% band `);
    make("span", { class: "lower-shown" }, this.answer, shown(lower[here]));
    this.answer.append(" to ");
    make("span", { class: "upper-shown" }, this.answer, shown(upper[here]));
    this.answer.append(` · 50% ${shown(inner_lower[here])} to ${shown(inner_upper[here])}`);
    this.where.textContent = this.beyond();
    if (this.chart) this.draw();
  }

  beyond() {
    const out = [];
    this.axes.forEach((axis, i) => {
      const range = this.data.range[axis.name];
      if (!range) return;
      const value = axis.values[this.at[i]];
      const factor = Math.max(value / range[1], range[0] / value);
      const short = axis.name === "tokens" ? "tokens" : "size";
      if (factor >= 1.05) out.push(`${short} ${factor.toPrecision(2)} times outside the data`);
    });
    return out.length ? `Extrapolated: ${out.join(", ")}.` : "Inside the sizes and tokens that were measured.";
  }

  draw() {
    // As wide as the screen allows, so that letters keep their size on a phone.
    this.width = this.chart.parentElement.clientWidth;
    const width = Math.max(280, this.width - 26), height = Math.min(360, 0.5 * width + 90);
    const left = 70, right = 16, top = 10, bottom = 40;
    const axis = this.axes[this.along];
    const places = axis.values.map((_, j) => this.place(this.at.map((k, i) => (i === this.along ? j : k))));
    const curve = (name) => places.map((place) => this.data.quantiles[name][place]);
    const outer = [curve("lower"), curve("upper")];
    const finite = outer.flat().filter((v) => v !== null && v > 0);
    const low = Math.floor(Math.log10(Math.min(...finite))), high = Math.ceil(Math.log10(Math.max(...finite)));
    const first = Math.log10(axis.values[0]), last = Math.log10(axis.values[axis.values.length - 1]);
    const x = (v) => left + ((Math.log10(v) - first) / (last - first)) * (width - left - right);
    const y = (v) => {
      const share = v === null ? 1 : (Math.log10(Math.max(v, 1e-300)) - low) / (high - low);
      return height - bottom - Math.min(1, Math.max(0, share)) * (height - top - bottom);
    };
    const svg = this.chart;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-label", `${this.data.response} against ${axis.label}`);
    for (let power = low; power <= high; power++) {
      make("line", { class: "tick", x1: left, x2: width - right, y1: y(10 ** power), y2: y(10 ** power) }, svg);
      const text = power < -3 ? `1e${power}` : String(10 ** power);
      make("text", { x: left - 6, y: y(10 ** power) + 4, "text-anchor": "end" }, svg, text);
    }
    axis.values.forEach((value, j) => {
      if (!/^1(0+)?[A-Za-z]?$/.test(axis.texts[j]) || !Number.isInteger(Math.round(Math.log10(value) * 1e6) / 1e6)) return;
      make("line", { class: "tick", x1: x(value), x2: x(value), y1: top, y2: height - bottom }, svg);
      make("text", { x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, svg, axis.texts[j]);
    });
    make("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, svg, axis.label);
    const middle = (top + height - bottom) / 2;
    const upright = { class: "y-label", x: 0, y: 0, transform: `translate(14 ${middle}) rotate(-90)`, "text-anchor": "middle" };
    make("text", upright, svg, this.data.response);
    const corners = (values) => values.map((v, j) => `${x(axis.values[j]).toFixed(1)},${y(v).toFixed(1)}`);
    const band = (under, over, name) =>
      make("polygon", { class: name, points: [...corners(under), ...corners(over).reverse()].join(" ") }, svg);
    band(outer[0], outer[1], "outer");
    band(curve("inner_lower"), curve("inner_upper"), "inner");
    make("polyline", { class: "median", points: corners(curve("median")).join(" ") }, svg);
    this.points(svg, x, y, [low, high], [first, last]);
    const end = this.data.range[axis.name];
    if (end) make("line", { class: "edge", x1: x(end[1]), x2: x(end[1]), y1: top, y2: height - bottom }, svg);
    const at = axis.values[this.at[this.along]];
    make("line", { class: "here", x1: x(at), x2: x(at), y1: top, y2: height - bottom }, svg);
  }

  points(svg, x, y, [low, high], [first, last]) {
    // Measured rows at the other axes' values; those within a third of the chosen size stand out.
    const sizes = this.axes.findIndex((axis) => axis.name === "n_params");
    for (const row of this.data.measured) {
      const value = row[row.length - 1];
      const other = this.axes.some((axis, i) => i !== this.along && i !== sizes && row[i] !== axis.values[this.at[i]]);
      const height = Math.log10(value), across = Math.log10(row[this.along]);
      if (other || height < low || height > high || across < first || across > last) continue;
      const ratio = sizes >= 0 && sizes !== this.along ? row[sizes] / this.axes[sizes].values[this.at[sizes]] : 1;
      const near = Math.abs(Math.log(ratio)) < Math.log(4 / 3);
      make("circle", { class: near ? "near" : "point", cx: x(row[this.along]), cy: y(value), r: near ? 3 : 2 }, svg);
    }
  }
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A page opened from a folder may not use the clipboard so.
    const area = make("textarea", {}, document.body);
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

document.querySelectorAll(".what-if").forEach((box) => new WhatIf(box));
// Paper has no clicks: what is folded is printed open, and is as it was afterwards.
let folded = [];
window.addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((part) => (part.open = true));
});
window.addEventListener("afterprint", () => folded.forEach((part) => (part.open = false)));
document.querySelectorAll(".copy").forEach((button) => {
  button.addEventListener("click", async () => {
    await copied(button.parentElement.dataset.csv);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy as CSV"), 1500);
  });
});
