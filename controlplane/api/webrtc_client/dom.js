// The page's elements.

export const element = (id) => document.getElementById(id);

// Unchanged text is left alone, so that it can be selected and is not read out again.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
