// Describes the machine under the pointer. The rest of the page works without scripts.
const { models, stages, rows } = JSON.parse(document.getElementById("rows")?.textContent ?? '{"rows": []}');
const strip = document.querySelector(".strip");
const told = document.getElementById("told");
strip?.addEventListener("pointermove", (event) => {
  const box = strip.getBoundingClientRect();
  const row = rows[Math.floor(((event.clientY - box.top) / box.height) * rows.length)];
  if (!row) return;
  const [number, start, end, model, stopped] = row;
  const outcome = stopped === null ? "booted" : `stopped in ${stages[stopped].replace("_", " ")}`;
  told.textContent = `machine ${number}, ${models[model]}: power-on at ${start} ms, ${outcome} after ${end - start} ms`;
});
strip?.addEventListener("pointerleave", () => { told.textContent = ""; });
