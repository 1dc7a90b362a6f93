// The page of one convolution or pooling: input, kernel and output, the window that moves, and the sum written out.

const { input, output, kernel } = data;
const places = data.cells.length;
const sums = ["conv", "transpose"].includes(data.kind);
const bracketed = (text) => (text.startsWith("−") ? `(${text})` : text);
const channelNote = (grid, c) => (grid.channels > 1 ? `channel ${c}` : "");
const signal = data.op.endsWith("1d");

/** The name of an output, as Python indexes it. */
function named(number) {
  const channel = Math.floor(number / places), cell = output.places[number % places];
  const row = Math.floor(cell / output.columns) + output.first[0], column = (cell % output.columns) + output.first[1];
  return `output[${[channel, ...(signal ? [] : [row]), column].slice(-data.axes).join(", ")}]`;
}

// -- grids --------------------------------------------------------------------------------------------------

const steps = makeSteps(places * output.channels, show, named);
const inputs = input.texts.map((texts, c) => {
  const grid = makeGrid({ ...input, name: "Input", note: channelNote(input, c), texts, shades: input.shades?.[c] });
  grid.table.classList.add("moves");
  if (kernel) grid.beside = 1 + Math.max(...kernel.texts.flat(2).map((text) => text.length)); // the sign and a weight
  drags(grid, (cell) => steps.go(current.channel * places + data.nearest[cell]));
  return grid;
});
const weights = kernel && Array.from({ length: data.channels }, (_, c) => makeGrid({
  ...kernel, name: "Kernel", label: words("Kernel", data.channels > 1 && `for channel ${c} of its group`),
  chars: Math.max(...kernel.texts.flat(2).map((text) => text.length)), texts: kernel.texts[0][c],
}));
// What the window shows, in numbers, where those of the input are too small to be drawn.
const lenses = input.shades && inputs.map((_, c) => makeGrid({
  ...data.window, name: "Window", label: words("Window", channelNote(input, c)), chars: input.chars, texts: Array(data.window.rows * data.window.columns).fill(""),
}));
const outputs = output.texts.map((texts, c) => makeGrid({
  ...output, name: "Output", note: channelNote(output, c), texts, shades: output.shades?.[c],
  chosen: (cell) => steps.go(c * places + output.places.indexOf(cell)),
}));
const [down, across] = data.stride;
const strided = data.starts.length > 1 && Math.max(down, across) > 1;
if (strided) {
  for (const grid of inputs) for (const cell of data.starts) grid.cells[cell].classList.add("begins");
}

// -- one output ---------------------------------------------------------------------------------------------

const current = { channel: 0, place: 0 };
const sum = make("section", { class: "sum", "aria-label": "The sum", "aria-live": "polite", "aria-atomic": "true" });
const pairs = inputs.map((grid, c) => make("div", { class: "pair" }, grid.figure,
  make("div", { class: "beside" }, lenses ? lenses[c].figure : null)));
for (const lens of lenses ?? []) lens.figure.classList.add("lens", "kernel");
for (const grid of weights ?? []) grid.figure.classList.add("kernel");

function show(number) {
  current.channel = Math.floor(number / places);
  current.place = number % places;
  const { channel, place } = current, cells = data.cells[place], taps = data.taps[place], first = data.first[channel];
  inputs.forEach((grid, c) => {
    const seen = c >= first && c < first + data.channels;
    pairs[c].classList.toggle("unseen", !seen);
    for (const cell of grid.table.querySelectorAll("td.seen, td.picked")) {
      cell.classList.remove("seen", "picked");
      cell.querySelector("small")?.remove();
    }
    if (!seen) return surround(grid, []);
    cells.forEach((cell, t) => {
      const td = grid.cells[cell];
      td.classList.add("seen");
      if (kernel) td.append(make("small", { "aria-hidden": "true" }, `×${kernel.texts[channel][c - first][taps[t]]}`));
      if (data.picked?.[channel][place] === t) td.classList.add("picked");
    });
    surround(grid, data.starts.length ? [data.starts[place], data.ends[place]] : cells);
    lenses?.[c].cells.forEach((cell, tap) => {
      cell.firstChild.textContent = taps.includes(tap) ? input.texts[c][cells[taps.indexOf(tap)]] : "";
    });
    if (weights) placeKernel(weights[c - first], c, channel, c - first, new Set(taps));
  });
  outputs.forEach((grid, c) => {
    choose(grid, c === channel ? output.places[place] : -1);
    surround(grid, c === channel && grid.shaded ? [output.places[place]] : []);
  });
  if (!outputs[channel].table.querySelector("[tabindex='0']")) outputs[channel].cells[0].tabIndex = 0;
  sum.setAttribute("aria-live", document.body.classList.contains("playing") ? "off" : "polite");
  sum.replaceChildren(...(sums ? written(channel, place) : pooled(channel, place)));
  for (const follow of followers) follow(channel, place);
}

/** Put a kernel beside the channel of the input that it is for. */
function placeKernel(grid, c, channel, number, used) {
  const beside = pairs[c].lastChild;
  if (grid.figure.parentElement !== beside) beside.append(grid.figure);
  grid.cells.forEach((cell, t) => {
    cell.firstChild.textContent = kernel.texts[channel][number][t];
    cell.classList.toggle("unused", !used.has(t));
  });
}

/** A term of the sum, which marks its cell and its weight while the pointer is on it. */
function term(text, channel, t) {
  const made = make("span", { class: "term" }, text);
  const first = data.first[current.channel], tap = data.taps[current.place][t];
  const marked = [made, inputs[first + channel].cells[data.cells[current.place][t]], weights?.[channel].cells[tap]];
  for (const [event, on] of [["pointerenter", true], ["pointerleave", false]]) {
    made.addEventListener(event, () => marked.forEach((one) => one?.classList.toggle("marked", on)));
  }
  return made;
}

const joined = (parts, between) => parts.flatMap((part, i) => (i ? [between, part] : [part]));
const line = (...parts) => make("p", {}, ...parts);
const name = () => make("span", { class: "name" }, named(current.channel * places + current.place));
const result = () => make("strong", {}, output.texts[current.channel][output.places[current.place]]);

/** The products of an output and their sum; with several channels a line for each. */
function written(channel, place) {
  const cells = data.cells[place], taps = data.taps[place], bias = data.bias?.[channel];
  const more = bias === undefined ? [] : [make("span", { title: "bias" }, `${bracketed(bias)} (bias)`)];
  if (!cells.length) return [line(name(), " = ", result(), ": no element of the input reaches it")];
  const products = (c) => cells.map((cell, t) => term(
    `${bracketed(input.texts[data.first[channel] + c][cell])}×${bracketed(kernel.texts[channel][c][taps[t]])}`, c, t));
  const terms = data.terms[channel][place];
  if (data.channels === 1) {
    return [
      line(name(), " = ", ...joined([...products(0), ...more], " + ")),
      line("= ", joined([...terms[0].map(bracketed), ...more.map((one) => one.textContent)], " + ").join("")),
      line("= ", result()),
    ];
  }
  const lines = terms.map((_, c) => line(make("span", { class: "channel" }, `channel ${data.first[channel] + c}: `),
    ...joined(products(c), " + "), " = ", data.sums[channel][place][c]));
  return [...lines, line(name(), " = ", ...joined([...data.sums[channel][place].map(bracketed), ...more], " + "), " = ", result())];
}

/** The window of a pooling, and what becomes of it. */
function pooled(channel, place) {
  const values = data.terms[channel][place][0].map((text, t) => term(data.kind === "avg" ? bracketed(text) : text, 0, t));
  if (data.kind === "avg") return [line(name(), " = (", ...joined(values, " + "), `) / ${data.divisors[place]} = `, result())];
  return [line(name(), ` = ${data.kind}(`, ...joined(values, ", "), ") = ", result())];
}

// -- the same as a product of matrices ----------------------------------------------------------------------

const followers = [];

/** A part of the page that opens; `build()` makes it when it is first opened and returns what follows the window. */
function opens(title, open, build) {
  const details = make("details", open ? { open: "" } : {}, make("summary", {}, title));
  const once = () => {
    details.removeEventListener("toggle", once);
    const [follow, ...children] = build();
    details.append(...children);
    followers.push(follow);
    follow(current.channel, current.place);
  };
  if (open) queueMicrotask(once);
  else details.addEventListener("toggle", once);
  return details;
}

const longest = (texts) => Math.max(...texts.map((text) => text.length));
const table = (label, rows, columns, texts) => makeGrid({ name: label, rows, columns, texts, chars: longest(texts) });

function along(grid, test) {
  grid.cells.forEach((cell, k) => cell.classList.toggle("along", test(Math.floor(k / grid.columns), k % grid.columns)));
}

function unrolled() {
  const taps = kernel.rows * kernel.columns, perGroup = output.texts.length * data.channels / input.texts.length;
  let group = -1, left, right, made;
  const product = make("div", { class: "product", tabindex: 0, role: "region", "aria-label": "The product of matrices" });
  const build = (first, start) => {
    const shown = kernel.texts.slice(start, start + perGroup), terms = data.channels * taps;
    left = table("Kernels, a row each", shown.length, terms, shown.flat(2));
    const seen = Array.from({ length: terms }, (_, k) => data.cells.map(
      (cells) => input.texts[first + Math.floor(k / taps)][cells[k % taps]]));
    right = table(data.pointwise ? "Pixels, a column each" : "Windows, a column each", terms, places, seen.flat());
    made = table(data.bias ? "Output, without bias" : "Output", shown.length, places,
      (data.whole ?? output.texts).slice(start, start + perGroup).flat());
    product.replaceChildren(left.figure, make("span", { class: "sign" }, "×"), right.figure,
      make("span", { class: "sign" }, "="), made.figure);
  };
  const follow = (channel, place) => {
    const first = data.first[channel], start = channel - (channel % perGroup), row = channel - start;
    if (group !== start) build(first, start);
    group = start;
    along(left, (i) => i === row);
    along(right, (_, j) => j === place);
    made.cells.forEach((cell, k) => cell.classList.toggle("chosen", k === row * places + place));
  };
  const text = data.pointwise
    ? "A 1×1 kernel sees one pixel: the convolution is the product of its weights, (channels out, channels in), and the pixels, (channels in, rows × columns)."
    : "Each window, unrolled, is a column (“im2col”); the kernels, unrolled, are rows. Their product is the convolution.";
  return [follow, make("p", {}, text), product];
}

function sparse() {
  const size = data.matrix[0][0].length;
  const product = make("div", { class: "product", tabindex: 0, role: "region", "aria-label": "The sparse matrix" });
  const beyond = new Set(input.outside);
  let shown = -1, matrix, made;
  const follow = (channel, place) => {
    if (shown !== channel) {
      const texts = data.matrix[channel].flat();
      matrix = table(words("Matrix", output.channels > 1 && `of output channel ${channel}`), places, size, texts);
      texts.forEach((text, k) => matrix.cells[k].classList.toggle("zero", text === "0"));
      const first = data.first[channel];
      const seen = input.texts.slice(first, first + data.channels).flatMap((one) => one.filter((_, k) => !beyond.has(k)));
      made = table(data.bias ? "Output, without bias" : "Output", places, 1,
        data.whole?.[channel] ?? output.places.map((cell) => output.texts[channel][cell]));
      const sign = (text) => make("span", { class: "sign" }, text);
      // An input that is much longer than the matrix is high would be the most of the picture.
      const times = size <= Math.max(places, 16) ? [sign("×"), table("Input", size, 1, seen).figure, sign("="), made.figure] : [];
      product.replaceChildren(matrix.figure, ...times);
      shown = channel;
    }
    along(matrix, (i, j) => i === place && matrix.cells[i * size + j].textContent !== "0");
    made.cells.forEach((cell, k) => cell.classList.toggle("chosen", k === place));
  };
  const text = "Row by row, what each output takes of each input: times the input as one column, this matrix is the output.";
  return [follow, make("p", {}, text), make("p", {}, data.weights), product];
}

// -- the page -----------------------------------------------------------------------------------------------

const legend = make("ul", { class: "legend" },
  make("li", {}, make("i", { class: "in" }), data.kind === "transpose" ? "what reaches the output" : "the window"),
  make("li", {}, make("i", { class: "out" }), "the output"),
  input.outside.length ? make("li", {}, make("i", { class: "pad" }), "padding") : null,
  output.outside.length ? make("li", {}, make("i", { class: "pad" }), "cut off by the padding") : null,
  strided ? make("li", {}, make("i", { class: "dot" }), `a window begins: stride ${signal || down === across ? across : `${down} down, ${across} across`}`) : null,
  make("li", {}, make("kbd", {}, "←"), " ", make("kbd", {}, "→"), " step; drag the window or tap an output"));
main.append(
  make("p", { class: "headline" }, data.title === data.op ? data.headline : `${data.op}: ${data.headline}`),
  make("ul", { class: "rules" }, ...data.rules.map((rule) => make("li", {}, rule))),
  steps.element,
  make("div", { class: "stage", style: `--in: ${input.columns}; --over: ${kernel ? kernel.columns : 0}` },
    make("div", { class: "channels" }, ...pairs), make("span", { class: "sign", "aria-hidden": "true" }, "="),
    make("div", { class: "results" }, make("div", { class: "outputs" }, ...outputs.map((grid) => grid.figure)), sum)),
  legend);
if (data.rounded) main.append(make("p", { class: "headline" }, data.rounded));
if (data.columns) main.append(opens(data.pointwise ? "As a matrix product" : "As a matrix product: im2col", data.pointwise, unrolled));
if (data.matrix) main.append(opens("As one sparse matrix", false, sparse));
steps.go(0);
fit([...inputs, ...(weights ?? []), ...outputs]);
