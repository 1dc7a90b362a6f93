"use strict";
// What all pages share: grids of numbers as tables, the box around a window, and the controls that step.
// Numbers come as texts from Python; nothing here adds or multiplies them.

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const words = (...parts) => parts.filter(Boolean).join(" ");

/** An element with attributes and children; texts are never read as HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * A grid of numbers: a table whose headers count rows and columns from `first` on.
 * `chosen(cell)` makes it one of which a cell can be chosen, by tap, drag and arrow keys.
 */
function makeGrid({ name, note, label, rows, columns, first = [0, 0], texts, shades, outside = [], chars = 1, chosen }) {
  const table = make("table", { role: chosen && "grid", "aria-label": label ?? words(name, note) });
  const minus = (number) => String(number).replace("-", "−");
  const cells = [];
  const labels = Array.from({ length: columns }, (_, j) => make("th", { scope: "col" }, minus(first[1] + j)));
  table.append(make("thead", {}, make("tr", {}, make("th", {}), ...labels)));
  const body = make("tbody");
  const beyond = new Set(outside);
  for (let i = 0; i < rows; i++) {
    const row = make("tr", {}, make("th", { scope: "row" }, minus(first[0] + i)));
    for (let j = 0; j < columns; j++) {
      const k = i * columns + j;
      const cell = make("td", chosen && !beyond.has(k) ? { role: "gridcell", tabindex: -1, "aria-selected": "false" } : {});
      cell.append(make("span", {}, texts[k]));
      if (beyond.has(k)) cell.classList.add("outside");
      if (shades) {
        cell.style.setProperty("--shade", `rgb(${shades[k]} ${shades[k]} ${shades[k]})`);
        cell.classList.add(shades[k] < 128 ? "dark" : "light");
      }
      row.append(cell);
      cells.push(cell);
    }
    body.append(row);
  }
  table.append(body);
  const box = make("div", { class: "frame-box", hidden: "" });
  const frame = make("div", { class: "frame" }, table, box);
  const scroll = make("div", { class: "scroll" }, frame);
  const caption = make("figcaption", { "aria-hidden": "true" }, make("b", {}, name), note ? ` ${note}` : "");
  const style = `--columns: ${columns}; --chars: ${Math.max(chars, 1)}`;
  const figure = make("figure", { class: words("grid", shades && "shaded"), style }, caption, scroll);
  const grid = { figure, table, cells, box, rows, columns, chars, shaded: Boolean(shades) };
  if (chosen) chooses(grid, chosen);
  return grid;
}

/** Choosing a cell of a grid by tap and drag (`moved(cell)`), from anywhere for a mouse, from a marked cell for a finger. */
function drags(grid, moved) {
  const at = (event) => {
    const under = document.elementFromPoint(event.clientX, event.clientY);
    return under ? grid.cells.indexOf(under.closest("td")) : -1;
  };
  let dragged = false;
  grid.table.addEventListener("pointerdown", (event) => {
    const cell = at(event);
    if (cell < 0 || event.button) return;
    dragged = event.pointerType === "mouse" || grid.cells[cell].matches(".seen, .chosen");
    if (dragged) moved(cell);
  });
  window.addEventListener("pointermove", (event) => {
    const cell = dragged ? at(event) : -1;
    if (cell >= 0) moved(cell);
  });
  for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, () => { dragged = false; });
  grid.table.addEventListener("click", (event) => {
    const cell = at(event);
    if (cell >= 0) moved(cell);
  });
}

/** Choosing a cell with the arrow keys, Home and End besides. */
function chooses(grid, chosen) {
  drags(grid, (cell) => { if (!grid.cells[cell].matches(".outside")) chosen(cell); });
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns };
  grid.table.addEventListener("keydown", (event) => {
    const from = grid.cells.indexOf(event.target.closest("td"));
    if (from < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const free = grid.cells.map((cell, k) => (cell.matches(".outside") ? -1 : k)).filter((k) => k >= 0);
    let to = from + (steps[event.key] ?? 0);
    if (event.key === "Home") to = free[0];
    else if (event.key === "End") to = free[free.length - 1];
    else if (!(event.key in steps)) return;
    event.preventDefault();
    event.stopPropagation();
    const sameRow = Math.floor(to / grid.columns) === Math.floor(from / grid.columns);
    if (!free.includes(to) || (Math.abs(steps[event.key]) === 1 && grid.columns > 1 && !sameRow)) return;
    chosen(to);
    grid.cells[to].focus();
  });
}

/** Mark the chosen cell of a grid, or none; it is the one that the Tab key leads to. */
function choose(grid, chosen) {
  grid.cells.forEach((cell, k) => {
    if (!cell.hasAttribute("role")) return;
    cell.classList.toggle("chosen", k === chosen);
    cell.setAttribute("aria-selected", String(k === chosen));
    cell.tabIndex = k === chosen ? 0 : -1;
  });
}

/** Draw the box around these cells of a grid; around none, hide it. */
function surround(grid, cells) {
  grid.boxed = cells;
  grid.box.hidden = !cells.length;
  if (!cells.length) return;
  const tds = cells.map((cell) => grid.cells[cell]);
  const left = Math.min(...tds.map((td) => td.offsetLeft)), top = Math.min(...tds.map((td) => td.offsetTop));
  const right = Math.max(...tds.map((td) => td.offsetLeft + td.offsetWidth));
  const bottom = Math.max(...tds.map((td) => td.offsetTop + td.offsetHeight));
  const { offsetLeft, offsetTop } = grid.table;
  Object.assign(grid.box.style, { left: `${left + offsetLeft - 2}px`, top: `${top + offsetTop - 2}px`,
    width: `${right - left + 4}px`, height: `${bottom - top + 4}px` });
}

/** Leave out the numbers of grids whose cells have no room for them, now and whenever the width changes. */
function fit(grids) {
  const measure = () => {
    for (const grid of grids) {
      const wide = grid.cells[0].getBoundingClientRect().width;
      grid.figure.classList.toggle("fine", grid.shaded && wide < grid.chars * 6.5 + 5);
      grid.figure.classList.toggle("narrow", wide < Math.max(34, (grid.beside ?? 0) * 6.2 + 6));
      grid.figure.classList.toggle("tiny", wide < 15);
      if (grid.boxed) surround(grid, grid.boxed);
    }
    const frame = framing();
    if (frame) frame.style.height = `${Math.ceil(main.getBoundingClientRect().height) + 4}px`;
  };
  new ResizeObserver(measure).observe(main);
  measure();
}

/** The frame that this page is shown in, if its owner lets it know. */
function framing() {
  try {
    return window.frameElement;
  } catch {
    return null;
  }
}

/** Buttons, a slider and keys that step through `count` outputs; `show(number)` shows one, `told(number)` names it. */
function makeSteps(count, show, told) {
  let at = 0, timer = 0;
  const button = (text, label, run) => {
    const made = make("button", { type: "button", "aria-label": label, title: label }, text);
    made.addEventListener("click", run);
    return made;
  };
  const slider = make("input", { type: "range", min: 0, max: count - 1, value: 0, "aria-label": "Output" });
  const counter = make("span", { class: "count" });
  const go = (number) => {
    at = (number + count) % count;
    slider.value = at;
    slider.setAttribute("aria-valuetext", told(at));
    counter.textContent = `${at + 1} of ${count}`;
    show(at);
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.firstChild.textContent = "▶ Play";
    play.setAttribute("aria-label", "Play");
    document.body.classList.remove("playing");
  };
  const step = (by) => { stop(); go(at + by); };
  const play = make("button", { type: "button", class: "play" }, "▶ Play");
  play.addEventListener("click", () => {
    if (timer) return stop();
    document.body.classList.add("playing");
    play.firstChild.textContent = "❚❚ Pause";
    play.setAttribute("aria-label", "Pause");
    timer = setInterval(() => go(at + 1), 900);
  });
  slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, .product, .scroll")) return;
    event.preventDefault();
    step(by);
  });
  const element = make("div", { class: "steps", role: "group", "aria-label": "Steps" },
    button("←", "Back", () => step(-1)), play, button("→", "Next", () => step(1)), slider, counter);
  return { element, go: (number) => { stop(); go(number); } };
}
