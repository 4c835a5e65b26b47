"use strict";

/* Sort the main table by a column: numbers from large to small first, names from a to z; what is missing comes last. */
const said = document.getElementById("sorted");
for (const button of document.querySelectorAll("table.results thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const column = Number(head.dataset.column);
    const body = head.closest("table").tBodies[0];
    const words = head.dataset.words !== undefined;
    const before = head.getAttribute("aria-sort");
    const descending = before === "none" ? !words : before === "ascending";
    const value = (row) => row.cells[column].dataset.value;
    const missing = (text) => text === undefined || text === "";
    const compare = words ? (a, b) => a.localeCompare(b) : (a, b) => Number(a) - Number(b);
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      return descending ? compare(y, x) : compare(x, y);
    });
    body.append(...rows);
    for (const other of head.closest("thead").querySelectorAll("th[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    said.textContent = `sorted by ${button.textContent.trim()}, ${descending ? "descending" : "ascending"}`;
  });
}

/* A link into a closed section opens it; printing opens all but the long ones. */
const reveal = () => {
  let target = null;
  try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { return; }
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", reveal);
if (location.hash) reveal();
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details:not(.rows)")) one.open = true;
});
