// Names and keyboard focus that the theme's markup lacks.
document$.subscribe(() => {
  document.querySelectorAll(".md-search[role=dialog]").forEach((dialog) => dialog.setAttribute("aria-label", "Search"));
  document.querySelectorAll("pre > code, .md-typeset__scrollwrap").forEach((block) => { block.tabIndex = 0; });
  document.querySelectorAll(".md-code__nav").forEach((tools, number) => tools.setAttribute("aria-label", `Code block ${number + 1}`));
});
