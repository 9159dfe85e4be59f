"use strict";
// What 4 bits cost a model: looked up in the atlas's grid (docs/calculator.py), straight between its points.
(() => {
  const box = document.getElementById("calculator");
  if (!box) return;
  const grid = window.QIDBAYES;
  if (!grid) {
    box.textContent = "The answers are not here: `make docs` makes them.";
    return;
  }
  const NEW = "a new family";
  const UNITS = { "": 1, k: 1e3, m: 1e6, b: 1e9, t: 1e12 };

  function make(name, attributes, parent, text) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }

  function count(text) {
    const found = /^\s*([0-9][0-9_,]*\.?[0-9]*|\.[0-9]+)(e[0-9]{1,2})?\s*([kmbt]?)\s*$/i.exec(text);
    return found ? Number(found[1].replace(/[_,]/g, "") + (found[2] || "")) * UNITS[found[3].toLowerCase()] : NaN;
  }

  function people(value) {
    for (const [unit, factor] of [["T", 1e12], ["B", 1e9], ["M", 1e6]])
      if (value >= factor * 0.9995) return `${Number((value / factor).toPrecision(3))}${unit}`;
    return String(value);
  }

  const shown = (value) => (value >= 99.5 ? value.toFixed(0) : String(Number(value.toPrecision(2))));

  // Where a value stands between the grid's points: the point below, and the share of the way to the next.
  function place(values, value) {
    const logs = values.map(Math.log);
    const at = Math.log(value);
    let i = 0;
    while (i < logs.length - 2 && at > logs[i + 1]) i++;
    return [i, (at - logs[i]) / (logs[i + 1] - logs[i])];
  }

  // Median, lower and upper of one width; tokens are null where nobody tells them.
  function answer(part, size, tokens, width) {
    const [sizes, columns, widths] = [grid.sizes.length, grid.tokens.length + 1, part.bits.length];
    const [i, u] = place(grid.sizes, size);
    const [j, v] = tokens === null ? [columns - 1, 0] : place(grid.tokens, tokens);
    return [0, 1, 2].map((level) => {
      const cell = (a, b) => part.values[((level * sizes + a) * columns + b) * widths + width];
      const along = (a) => (v ? (1 - v) * cell(a, j) + v * cell(a, j + 1) : cell(a, j));
      return 10 ** (((1 - u) * along(i) + u * along(i + 1)) / 1000);
    });
  }

  const form = make("form", { class: "asked" }, box);
  const field = (text, name, attributes, kind = "input") => {
    const label = make("label", {}, form, text);
    return make(kind, { name, ...attributes }, label);
  };
  const typed = { autocomplete: "off", spellcheck: "false", size: 8 };
  const size = field("Parameters, without embeddings", "n_params", { ...typed, value: "8B" });
  const tokens = field("Training tokens (empty: unknown)", "tokens", { ...typed, value: "15T" });
  const family = field("Family", "suite", {}, "select");
  const format = field("Format", "format", {}, "select");
  const bits = field("Bits", "bits", {}, "select");
  const bound = field("QiD that is bearable", "max_qid", { ...typed, value: "0.1" });
  const result = make("div", { class: "result", "aria-live": "polite" }, box);
  form.addEventListener("submit", (event) => event.preventDefault());

  for (const suite of new Set(grid.parts.map((part) => part.suite))) make("option", { value: suite }, family, suite || NEW);

  function choose(select, texts, wanted) {
    select.replaceChildren();
    for (const text of texts) make("option", { value: text }, select, text);
    select.value = texts.includes(wanted) ? wanted : texts[0];
  }

  function offer() {
    const here = grid.parts.filter((part) => part.suite === family.value);
    choose(format, here.map((part) => part.format), format.value || "GPTQ, groups of 128");
    const part = here.find((one) => one.format === format.value);
    choose(bits, part.bits.map(String), bits.value || "4");
    return part;
  }

  function refused(input, text) {
    input.setAttribute("aria-invalid", "true");
    result.replaceChildren();
    make("p", { class: "refused" }, result, text);
  }

  function outside(input, ends, what) {
    const value = count(input.value);
    if (value >= ends[0] && value <= ends[ends.length - 1]) return false;
    const range = `between ${people(ends[0])} and ${people(ends[ends.length - 1])}`;
    refused(input, `${what}: write a count ${range}, such as ${input === size ? "8B" : "15T"}.`);
    return true;
  }

  function show() {
    const part = offer();
    for (const input of [size, tokens, bound]) input.removeAttribute("aria-invalid");
    const unknown = tokens.value.trim() === "";
    if (outside(size, grid.sizes, "Parameters") || (!unknown && outside(tokens, grid.tokens, "Training tokens"))) return;
    const most = Number(bound.value);
    if (!(most > 0)) return refused(bound, "QiD that is bearable: write nats per token, such as 0.1.");
    const [n, d] = [count(size.value), unknown ? null : count(tokens.value)];
    const rows = part.bits.map((_, i) => answer(part, n, d, i));
    const [median, lower, upper] = rows[part.bits.indexOf(Number(bits.value))];
    const percent = Math.round(grid.ci_prob * 100);
    result.replaceChildren();
    const said = make("p", { class: "answer" }, result, `QiD at ${bits.value} bits: `);
    make("b", { class: "median-shown" }, said, shown(median));
    said.append(` nats per token. ${percent}% band: `);
    make("span", { class: "lower-shown" }, said, shown(lower));
    said.append(" to ");
    make("span", { class: "upper-shown" }, said, shown(upper));
    said.append(`. Perplexity is multiplied by ${Math.exp(median).toFixed(2)} (${Math.exp(lower).toFixed(2)} to ` +
      `${upper > 7 ? "more than 1,000" : Math.exp(upper).toFixed(2)}).`);
    const enough = part.bits.findIndex((_, i) => rows[i][2] <= most);
    const sure = Math.round(50 + grid.ci_prob * 50);
    make("p", { class: "advice" }, result, enough < 0
      ? `No width of this format keeps QiD at or below ${most} with ${sure}% probability.`
      : `The fewest bits that keep QiD at or below ${most} with ${sure}% probability: ${part.bits[enough]}.`);
    const table = make("table", {}, result);
    const head = make("tr", {}, make("thead", {}, table));
    for (const name of ["bits", "median", "lower", "upper"]) make("th", { scope: "col" }, head, name);
    const body = make("tbody", {}, table);
    rows.forEach((row, i) => {
      const line = make("tr", i === enough ? { class: "advised" } : {}, body);
      make("th", { scope: "row" }, line, String(part.bits[i]));
      for (const value of row) make("td", {}, line, shown(value));
    });
    make("p", { class: "note" }, result, `Assumed: ${part.assumed[unknown ? 1 : 0]}.` +
      (d > grid.most_tokens ? ` No measured model has more than ${people(grid.most_tokens)} tokens: ` +
        "this assumes that nothing breaks after them." : "") +
      ` Answers between the points that were worked out are interpolated, which is off by up to ` +
      `${(part.error * 100).toFixed(0)}% here.`);
    const command = ["qidbayes advise", `--params ${size.value.trim()}`, unknown ? "" : `--tokens ${tokens.value.trim()}`,
      `--max-qid ${most}`, part.suite && `--suite ${part.suite}`, part.about.method && `--method ${part.about.method}`,
      part.about.group_size && `--group-size ${part.about.group_size}`];
    make("code", {}, make("p", { class: "note" }, result, "The same, exactly: "), command.filter(Boolean).join(" "));
  }

  make("p", { class: "note" }, box, `From ${grid.rows} measurements of ${grid.families} families.`);
  form.addEventListener("input", show);
  show();
})();
