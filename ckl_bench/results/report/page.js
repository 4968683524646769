"use strict";
// Legend: a button shows and hides its stack in every figure of its section.
for (const section of document.querySelectorAll("section[id^=league]")) {
  for (const key of section.querySelectorAll(".key")) {
    const apply = () => {
      for (const mark of section.querySelectorAll(`svg [id$="-m${key.dataset.m}"]`))
        mark.classList.toggle("hidden", key.getAttribute("aria-pressed") !== "true");
    };
    key.addEventListener("click", () => {
      key.setAttribute("aria-pressed", String(key.getAttribute("aria-pressed") !== "true"));
      apply();
    });
    apply();
  }
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
const wanted = new Set(data[0].states);
for (const state of data[0].states) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: state });
  button.setAttribute("aria-pressed", "true");
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
  for (const code of [...new Set(data[run.value].facts.map((f) => f[1]))].filter(Boolean).sort()) option(relation, code, code);
  show();
};
run.addEventListener("change", choose);
relation.addEventListener("change", show);
choose();
