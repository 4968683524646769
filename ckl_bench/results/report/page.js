"use strict";
// Legend: a button puts its stack in colour in every figure of its section; the frontier is of the stacks in colour.
const dots = (mark) => [...mark.querySelectorAll("use")].map((dot) => [+dot.getAttribute("x"), +dot.getAttribute("y")]);
const frontier = (section) => {
  const edge = section.querySelector("#frontier path");
  if (!edge) return;
  const points = [...section.querySelectorAll("svg [id^='path-m']:not(.off)")].flatMap(dots);
  const best = points.filter((p) => !points.some((q) => q[0] >= p[0] && q[1] <= p[1] && (q[0] > p[0] || q[1] < p[1])));
  best.sort((p, q) => p[0] - q[0]);  // y grows downwards
  edge.setAttribute("d", best.map(([x, y], i) => (i ? `V ${y} H ${x}` : `M ${x} ${y}`)).join(" "));
};
const names = (section) => {
  let below = -Infinity;
  const shown = [...section.querySelectorAll("svg [id^='label-m']:not(.off)")].map((name) =>
    [name, dots(section.querySelector(`[id="${name.id.replace("label", "pathend")}"]`))[0][1]]);
  for (const [name, height] of shown.sort((a, b) => a[1] - b[1])) {  // moved down where they would lie on each other
    name.removeAttribute("transform");
    const own = name.getBBox(), wanted = Math.max(height, below + own.height);
    name.setAttribute("transform", `translate(0 ${wanted - own.y - own.height / 2})`);
    below = wanted;
  }
};
for (const section of document.querySelectorAll("section[id^=league]")) {
  for (const key of section.querySelectorAll(".key")) {
    key.addEventListener("click", () => {
      const on = key.getAttribute("aria-pressed") !== "true";
      key.setAttribute("aria-pressed", String(on));
      for (const mark of section.querySelectorAll(`svg [id$="-m${key.dataset.m}"]`)) {
        mark.classList.toggle("off", !on);
        if (mark.hasAttribute("tabindex")) mark.tabIndex = on ? 0 : -1;
        if (on) mark.parentNode.append(mark);  // over the grey ones
      }
      frontier(section);
      names(section);
    });
  }
}
// Values: of the dot that is nearest to the pointer, or of the mark that has the focus.
for (const figure of document.querySelectorAll("figure")) {
  const said = figure.querySelector(".said");
  figure.addEventListener("focusin", (event) => {
    const mark = event.target.closest("[data-said]");
    if (mark) said.textContent = mark.dataset.said.split("\n").at(-1);
  });
  figure.addEventListener("pointermove", (event) => {
    let nearest = 16, text = "";
    for (const mark of figure.querySelectorAll("[data-said]"))
      [...mark.querySelectorAll("use")].forEach((dot, i) => {
        const box = dot.getBoundingClientRect();
        const far = Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
        if (far < nearest - (mark.classList.contains("off") ? 6 : 0)) [nearest, text] = [far, mark.dataset.said.split("\n")[i]];
      });
    if (text) said.textContent = text;
  });
}
// Table: a heading sorts by its column, numbers as numbers; a second click turns the order around.
const value = (row, column) => {
  const text = row.cells[column].textContent.replace(/,/g, ""), number = parseFloat(text);
  return Number.isNaN(number) ? text : number;
};
for (const table of document.querySelectorAll("table.board")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const x = value(a, column), y = value(b, column);
      const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }));
}
// Explorer: facts of a run, by relation and by what became of them. Text is only ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const run = document.getElementById("run"), relation = document.getElementById("relation");
const body = document.getElementById("facts"), count = document.getElementById("count"), fates = document.getElementById("fates");
const option = (select, name, text) => select.append(Object.assign(document.createElement("option"), { value: name, textContent: text }));
data.forEach((item, i) => option(run, i, item.name));
const wanted = new Set(["learned", "forgotten"]);
const open = data.findIndex((item) => item.facts.some((fact) => wanted.has(fact[6])));  // a run with something to see
if (open < 0) data[0].states.forEach((state) => wanted.add(state));
for (const state of data[0].states) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: state });
  button.setAttribute("aria-pressed", String(wanted.has(state)));
  button.addEventListener("click", () => {
    wanted.has(state) ? wanted.delete(state) : wanted.add(state);
    button.setAttribute("aria-pressed", String(wanted.has(state)));
    show();
  });
  fates.append(button, " ");
}
const show = () => {
  const facts = data[run.value].facts.filter((f) => wanted.has(f[6]) && (!relation.value || f[1] === relation.value));
  body.replaceChildren(...facts.map(([set, , prompt, answer, before, after, fate]) => {
    const row = document.createElement("tr");
    for (const text of [set, prompt, answer, before, after, fate]) row.insertCell().textContent = text;
    row.lastChild.className = fate.replace(" ", "-");
    return row;
  }));
  const sums = data[0].states.map((s) => `${facts.filter((f) => f[6] === s).length} ${s}`);
  count.textContent = `${facts.length} facts: ${sums.join(", ")}`;
};
const choose = () => {
  relation.replaceChildren();
  option(relation, "", "all");
  const codes = [...new Set(data[run.value].facts.map((f) => f[1]))].filter(Boolean).sort();
  for (const code of codes) option(relation, code, code);
  relation.parentNode.hidden = codes.length < 2;
  show();
};
run.value = Math.max(0, open);
run.addEventListener("change", choose);
relation.addEventListener("change", show);
choose();
