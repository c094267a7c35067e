/** One of many elements is reached by Tab, the others from there by the arrow keys. */

/**
 * @param columns how many are in a row; without it they follow each other in one
 * @param act called with the place of the element on which Enter or Space was pressed
 */
export function roving(container, elements, { columns = Infinity, act }) {
  let here = elements[0];
  const places = new Map(elements.map((element, place) => [element, place]));
  const reach = (element) => {
    here.tabIndex = -1;
    here = element;
    here.tabIndex = 0;
  };
  for (const element of elements) element.tabIndex = -1;
  if (here) here.tabIndex = 0;
  container.addEventListener('focusin', ({ target }) => places.has(target) && reach(target));
  container.addEventListener('keydown', (event) => {
    const place = places.get(event.target);
    if (place === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === 'Enter' || event.key === ' ') act(place);
    else if (!(event.key in steps)) return;
    else elements[steps[event.key](place, columns, elements.length)]?.focus();
    event.preventDefault();
  });
}

const first = (place, columns) => (columns === Infinity ? 0 : place - (place % columns));
const steps = {
  ArrowLeft: (place) => place - 1,
  ArrowRight: (place) => place + 1,
  ArrowUp: (place, columns) => (columns === Infinity ? place - 1 : place - columns),
  ArrowDown: (place, columns) => (columns === Infinity ? place + 1 : place + columns),
  Home: first,
  End: (place, columns, size) => Math.min(first(place, columns) + columns, size) - 1,
};
