// The page of a stack of layers: a grid for the input and for each layer's output, and what the chosen element sees.

const top_level = data.levels.length - 1;
const current = { level: top_level, cell: 0 };
const text = make("section", { class: "sum", "aria-label": "What it sees", "aria-live": "polite", "aria-atomic": "true" });

/** The steps lead through the outputs of the last layer; the elements of others are chosen by tap and by their own keys. */
const name = (level, cell) => {
  const { columns } = data.levels[level];
  return `[${Math.floor(cell / columns)}, ${cell % columns}]`;
};
const steps = makeSteps(data.levels[top_level].rows * data.levels[top_level].columns,
  (cell) => show(top_level, cell), (cell) => `output ${name(top_level, cell)}`);
const grids = data.levels.map((level, number) => {
  const grid = makeGrid({
    name: number ? `Layer ${number}` : "Input", note: `${level.rows}×${level.columns}`, rows: level.rows, columns: level.columns,
    texts: Array(level.rows * level.columns).fill(""),
    chosen: number ? (cell) => (number === top_level ? steps.go(cell) : show(number, cell)) : undefined,
  });
  grid.figure.classList.add("layer");
  if (number) grid.figure.append(make("p", { class: "what" }, level.name));
  grid.cells.forEach((cell, k) => cell.hasAttribute("role") && cell.setAttribute("aria-label", name(number, k)));
  return grid;
});

/** Choose an element of a level, and mark what it sees of the levels below. */
function show(level, cell) {
  current.level = level;
  current.cell = cell;
  const { columns } = data.levels[level], row = Math.floor(cell / columns), column = cell % columns;
  grids.forEach((grid, below) => {
    choose(grid, below === level ? cell : -1);
    if (below && below !== level) grid.cells[0].tabIndex = 0;
    for (const td of grid.table.querySelectorAll("td.seen")) td.classList.remove("seen");
    if (below >= level) return surround(grid, []);
    const [rows, all] = [data.seen[level][below][0][row], data.seen[level][below][1][column]];
    const seen = rows.flatMap((i) => all.map((j) => i * grid.columns + j));
    for (const k of seen) grid.cells[k].classList.add("seen");
    surround(grid, seen);
  });
  const [down, across] = data.words[level - 1];
  text.setAttribute("aria-live", document.body.classList.contains("playing") ? "off" : "polite");
  text.replaceChildren(
    make("p", {}, make("span", { class: "name" }, `Layer ${level}, output ${name(level, cell)}`), " sees ",
      make("strong", {}, `${down[row]}, ${across[column]}`), " of the input."),
    make("p", {}, data.headlines[level - 1]));
}

main.append(
  make("p", { class: "headline" }, `${top_level} layer${top_level === 1 ? "" : "s"}: what one output sees of the input`),
  steps.element,
  text,
  make("div", { class: "stage layers" }, ...grids.map((grid) => grid.figure)),
  make("ul", { class: "legend" },
    make("li", {}, make("i", { class: "in" }), "what it sees"), make("li", {}, make("i", { class: "out" }), "the output"),
    make("li", {}, make("kbd", {}, "←"), " ", make("kbd", {}, "→"), " step; tap an element of any layer")));
steps.go(0);
fit(grids);
