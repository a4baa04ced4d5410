/**
 * The one script of a page, for figures that are complete without it: it turns the entries of a figure's legend into
 * buttons that show and hide a series (in every figure that has it: a group or method is one thing on the whole page), and
 * shows the values under the pointer, or under a cursor that the arrow keys move.
 *
 * It reads the `ChartValues` that stand as JSON in each figure, whose numbers are text already, so it formats nothing.
 */
export const PAGE_SCRIPT = `'use strict';
const hidden = new Set();
const figures = [...document.querySelectorAll('figure')].map((figure) => {
  const { names, axis, plot: [left, top, right, bottom], stops } = JSON.parse(figure.querySelector('script').textContent);
  const chart = figure.querySelector('.chart');
  const svg = chart.querySelector('svg');
  const swatches = [...figure.querySelectorAll('.legend li')].map((item) => item.firstElementChild);
  const buttons = new Map();
  let stop = -1;

  const make = (parent, name, attributes) => {
    const element = document.createElementNS(parent.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return parent.appendChild(element);
  };
  const tip = make(chart, 'div', { class: 'tip', role: 'status', hidden: '' });
  const line = make(svg, 'path', { class: 'cursor' });
  const dots = make(svg, 'g', {});

  const visible = (at) => stops[at].rows.filter(([series]) => !hidden.has(names[series]));
  const show = (at) => {
    const rows = at < 0 ? [] : visible(at);
    stop = at;
    tip.hidden = rows.length === 0;
    dots.replaceChildren();
    line.removeAttribute('d');
    if (tip.hidden) return;
    const position = stops[at].at;
    tip.replaceChildren();
    make(tip, 'strong', {}).textContent = stops[at].title;
    for (const [series, text, across] of rows) {
      const row = make(tip, 'div', {});
      if (swatches[series]) row.append(swatches[series].cloneNode());
      make(row, 'span', {}).textContent = swatches[series] ? names[series] : '';
      make(row, 'span', { class: 'number' }).textContent = text;
      if (axis === 'x') make(dots, 'circle', { cx: position, cy: across, r: 4, class: 'dot' });
    }
    if (axis === 'x') line.setAttribute('d', \`M\${position},\${top}V\${bottom}\`);
    // Curves: beside the cursor, on the side with more room; below the figure where there is not enough of it. Bars: below theirs.
    const scale = svg.clientWidth / svg.viewBox.baseVal.width;
    const x = axis === 'x' ? position * scale : chart.clientWidth;
    const beside = x > chart.clientWidth / 2 ? x - 12 - tip.offsetWidth : x + 12;
    const start = Math.max(0, Math.min(beside, chart.clientWidth - tip.offsetWidth));
    const half = stops.length > 1 ? (stops[1].at - stops[0].at) / 2 : (bottom - top) / 2;
    const y = axis === 'y' ? (position + half) * scale : start === beside ? top * scale : chart.clientHeight;
    tip.style.left = \`\${start}px\`;
    tip.style.top = \`\${y}px\`;
  };

  /** The stop nearest to the pointer that has something to show; -1 outside the plot. */
  const under = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    if (y < top - 8 || y > bottom + 8 || x > right + 8 || (axis === 'x' && x < left - 8)) return -1;
    const distance = (at) => Math.abs(stops[at].at - (axis === 'x' ? x : y));
    const candidates = stops.map((_, at) => at).filter((at) => visible(at).length > 0);
    return candidates.length === 0 ? -1 : candidates.reduce((best, at) => (distance(at) < distance(best) ? at : best));
  };
  for (const kind of ['pointermove', 'pointerdown']) chart.addEventListener(kind, (event) => show(under(event)));
  chart.addEventListener('pointerleave', (event) => event.pointerType === 'mouse' && show(-1));

  chart.tabIndex = 0;
  chart.setAttribute('role', 'group');
  chart.setAttribute('aria-label', 'Values of the figure: arrow keys move from one to the next, Escape hides them');
  chart.addEventListener('blur', () => show(-1));
  chart.addEventListener('keydown', (event) => {
    const last = stops.length - 1;
    const next = {
      ArrowLeft: Math.max(0, stop - 1), ArrowUp: Math.max(0, stop - 1),
      ArrowRight: Math.min(last, stop + 1), ArrowDown: Math.min(last, stop + 1),
      Home: 0, End: last, Escape: -1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    show(next);
  });

  for (const item of figure.querySelectorAll('.legend li')) {
    const button = document.createElement('button');
    button.type = 'button';
    button.title = 'Show or hide in every figure';
    button.append(...item.childNodes);
    item.append(button);
    const name = names[item.dataset.series];
    buttons.set(name, button);
    button.addEventListener('click', () => {
      if (!hidden.delete(name)) hidden.add(name);
      for (const update of figures) update();
    });
  }

  const update = () => {
    for (const mark of svg.querySelectorAll('[data-series]'))
      mark.classList.toggle('off', hidden.has(names[mark.dataset.series]));
    for (const [name, button] of buttons) button.setAttribute('aria-pressed', String(!hidden.has(name)));
    show(stop);
  };
  update();
  return update;
});
`;
