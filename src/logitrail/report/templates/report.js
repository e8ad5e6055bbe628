(() => {
  "use strict";
  const form = document.getElementById("filters");
  if (!form) return;
  const field = (id) => document.getElementById(id);
  const models = Array.from(field("model").options, (option) => option.value);
  const rows = Array.from(document.querySelectorAll("#rows > .row"), (element) => ({
    element,
    suite: element.dataset.suite,
    differs: element.dataset.differs === "yes",
    verdicts: Array.from(element.querySelectorAll("[data-verdict]"), ({ dataset }) =>
      dataset.models.split(" ").map((place) => [models[place], dataset.verdict])).flat(),
    text: null,
  }));
  const textOf = (row) => {
    if (row.text === null) {
      row.text = Array.from(row.element.querySelectorAll("h3, .what, .prompt, .said"), (part) => part.textContent)
        .join("\n").toLowerCase();
    }
    return row.text;
  };
  const apply = () => {
    const wanted = field("search").value.trim().toLowerCase();
    const suite = field("suite").value;
    const verdict = field("verdict").value;
    const model = field("model").value;
    const differs = field("differs").checked;
    let shown = 0;
    for (const row of rows) {
      const fits = (!suite || row.suite === suite) && (!differs || row.differs)
        && ((!verdict && !model) || row.verdicts.some(([name, label]) =>
          (!verdict || label === verdict) && (!model || name === model)))
        && (!wanted || textOf(row).includes(wanted));
      row.element.hidden = !fits;
      if (fits) shown += 1;
    }
    field("count").textContent = shown === rows.length
      ? `${rows.length} prompts` : `${shown} of ${rows.length} prompts shown`;
  };
  let timer = 0;
  const later = () => { clearTimeout(timer); timer = setTimeout(apply, 90); };
  form.addEventListener("input", later);
  form.addEventListener("change", later);
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  field("clear").addEventListener("click", () => { form.reset(); apply(); });
  form.hidden = false;
  apply();
})();
