"use strict";
const table = document.getElementById("rows"), body = table.tBodies[0], filters = document.getElementById("filters");

function sortBy(th) {
  const column = th.cellIndex, down = th.ariaSort !== "descending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
  const numeric = th.classList.contains("n"), sign = down ? -1 : 1;
  const key = row => {
    const cell = row.cells[column];
    return numeric ? ("key" in cell.dataset ? Number(cell.dataset.key) : NaN) : cell.textContent;
  };
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (!numeric) return sign * x.localeCompare(y, undefined, {numeric: true});
    return isNaN(x) - isNaN(y) || sign * (x - y) || 0; // rows without a number stay at the end
  };
  body.append(...[...body.rows].sort(compare));
}

function filter() {
  const words = filters.querySelector("[type=search]").value.toLowerCase().split(/\s+/);
  const choices = [...filters.querySelectorAll("select")].filter(select => select.value);
  const missesOnly = filters.querySelector("[type=checkbox]").checked;
  let shown = 0;
  for (const row of body.rows) {
    const name = row.cells[0].textContent.toLowerCase();
    row.hidden = !(words.every(word => name.includes(word))
      && choices.every(select => row.cells[select.dataset.column].textContent === select.value)
      && (!missesOnly || row.querySelector(".bad")));
    shown += !row.hidden;
  }
  filters.querySelector("output").textContent = shown + " of " + body.rows.length + " rows";
}

table.classList.add("sorts");
for (const th of table.tHead.rows[0].cells) {
  th.tabIndex = 0;
  th.onclick = () => sortBy(th);
  th.onkeydown = event => { if (event.key === "Enter") sortBy(th); };
}
filters.hidden = false;
filters.oninput = filter;
filters.onsubmit = event => event.preventDefault();
filter();
