import { describe, expect, it } from 'vitest';
import { drawChart, drawForPage, errorEnds } from '../../src/report/charts.js';
import { groupColours, methodColours, methodTitle, orderMethods } from '../../src/report/palette.js';

const count = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].length;
/** Markup inside the vega group of that mark, up to the end of the group. */
const marks = (svg: string, kind: string) =>
  [...svg.matchAll(new RegExp(`<g class="mark-${kind} role-mark[^"]*"[^>]*>(.*?)</g>`, 'gs'))].map((match) => match[1]);

describe('a line chart', () => {
  const line = {
    description: 'Losses of <two> "methods"',
    x: { title: 'Step' },
    y: { title: 'Loss / nats' },
    series: [
      { name: 'a', colour: '#0072B2', points: [0, 1, 2].map((x) => ({ x, y: 3 - x, low: 2.5 - x, high: 3.5 - x })) },
      { name: 'b', colour: '#D55E00', points: [0, 1, 2].map((x) => ({ x, y: 2 })) },
    ],
    references: [{ name: 'bound', y: 3.5 }],
  };

  it('draws every series, the band of the one that has it, the points, the reference and the titles', async () => {
    const svg = await drawChart(line);
    expect(marks(svg, 'area').join('')).toContain('fill="#0072B2"');
    expect(count(marks(svg, 'area').join(''), /<path/g)).toBe(1);
    const strokes = marks(svg, 'line').join('');
    expect(count(strokes, /<path/g)).toBe(3);
    expect(strokes).toMatch(/stroke="#0072B2"/);
    expect(strokes).toMatch(/stroke="#666666"[^>]*stroke-dasharray="6,4"|stroke-dasharray="6,4"[^>]*stroke="#666666"/);
    expect(count(marks(svg, 'symbol').join(''), /<path/g)).toBe(6);
    for (const text of ['Step', 'Loss / nats', 'a', 'b', 'bound']) expect(svg).toContain(`>${text}</text>`);
  });

  it('is XML whatever names hold', async () => {
    const name = 'a\u0000\u001b[31m\u0085\ud800b\uffff😀';
    const svg = await drawChart({
      ...line,
      description: name,
      y: { title: name },
      series: [{ ...line.series[0], name }],
    });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(svg).not.toMatch(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]/u);
    expect(svg).toContain('a\\x00\\x1b[31m\\x85\\ud800b\\uffff😀');
  });

  it('has the title of its y axis level above the plot, however long it is', async () => {
    const title = 'GR-IPO (step 0.002, optimizer learningRate 0.0003, batch size 16): loss / nats';
    const svg = await drawChart({ ...line, y: { title } });
    const texts = [
      ...svg.matchAll(
        /<text[^>]*transform="translate\((-?[\d.]+),(-?[\d.]+)\)( rotate\([^)]*\))?"[^>]*>(.*?)<\/text>/gs,
      ),
    ];
    const of = (part: string) => texts.find(([, , , , text]) => text.includes(part))!;
    expect(of('GR-IPO')[3]).toBeUndefined();
    const lines = of('GR-IPO')[4].split('<tspan').length - 1;
    expect(lines).toBeGreaterThan(1);
    // Relative to the plot's top edge: the last line still ends above it.
    expect(Number(of('GR-IPO')[2]) + 15 * (lines - 1)).toBeLessThan(0);
    const { values } = await drawForPage({ ...line, y: { title } });
    const [left, , right] = values.plot;
    expect(right - left).toBeGreaterThan(400);
  });

  it('is an image with a description, scales, and is the same every time', async () => {
    const svg = await drawChart(line);
    expect(svg).toMatch(/^<svg role="img" aria-label="Losses of &lt;two&gt; &quot;methods&quot;" /);
    expect(svg).toMatch(/viewBox="0 0 \d+ \d+"/);
    expect(await drawChart(line)).toBe(svg);
  });

  it('leaves out what a logarithmic axis cannot show and draws an inverse-root law as a straight line', async () => {
    const svg = await drawChart({
      description: 'rate',
      x: { title: 'T', log: true },
      y: { title: 'error', log: true },
      series: [
        {
          name: 'e',
          colour: '#000000',
          points: [{ x: 10, y: -1 }, ...[1e2, 1e4, 1e6].map((x) => ({ x, y: 1 / Math.sqrt(x), low: -1, high: 1 }))],
        },
      ],
    });
    const [, path] = /<path[^>]* d="(M[^"]*)"/.exec(marks(svg, 'line')[0])!;
    const points = [...path.matchAll(/(-?[\d.]+),(-?[\d.]+)/g)].map(([, x, y]) => [Number(x), Number(y)]);
    expect(points).toHaveLength(3);
    const slope = (i: number) => (points[i + 1][1] - points[i][1]) / (points[i + 1][0] - points[i][0]);
    expect(slope(1)).toBeCloseTo(slope(0), 3);
    expect(svg).not.toContain('NaN');
  });
});

describe('a bar chart', () => {
  it('has bars as long as their values, error bars only where given, and expected values as diamonds', async () => {
    const svg = await drawChart({
      description: 'bars',
      value: { title: 'Loss' },
      colours: methodColours(['ipo', 'gr-ipo']),
      bars: [
        { category: 'India (Current national sample)', series: 'ipo', value: 4, low: 3, high: 5, expected: 4.5 },
        { category: 'India (Current national sample)', series: 'gr-ipo', value: 2 },
      ],
    });
    const widths = [
      ...marks(svg, 'rect')
        .join('')
        .matchAll(/d="M[\d.]+,[\d.]+h([\d.]+)v/g),
    ].map(([, w]) => Number(w));
    expect(widths).toHaveLength(2);
    expect(widths[0] / widths[1]).toBeCloseTo(2, 2);
    expect(count(marks(svg, 'rule').join(''), /<line/g)).toBe(1);
    expect(count(marks(svg, 'symbol').join(''), /<path/g)).toBe(1);
    for (const colour of ['#0072B2', '#D55E00']) expect(svg).toContain(`fill="${colour}"`);
    // A long name is broken into lines, not cut.
    expect(svg).toContain('>India (Current</tspan>');
    expect(svg).toContain('>national sample)</tspan>');
  });
});

describe('drawForPage', () => {
  const series = [
    { name: 'a', colour: '#0072B2', points: [0, 1, 2].map((x) => ({ x, y: 3 - x, low: 2.5 - x, high: 3.5 - x })) },
    { name: 'b', colour: '#D55E00', points: [1, 2].map((x) => ({ x, y: 2 * x, low: 2 * x - 1, high: 2 * x + 0.5 })) },
  ];
  const line = {
    description: 'd',
    x: { title: 'Step' },
    y: { title: 'Loss' },
    series,
    references: [{ name: 'bound', y: 3.5 }],
  };

  it('marks every curve, band and point with its series, and leaves the legend to the page', async () => {
    const { svg, series } = await drawForPage(line);
    expect(count(marks(svg, 'line').join(''), /data-series="[012]"/g)).toBe(3);
    expect(count(marks(svg, 'area').join(''), /data-series="[01]"/g)).toBe(2);
    expect(count(marks(svg, 'symbol').join(''), /data-series="0"/g)).toBe(3);
    expect(svg).not.toContain('>bound</text>');
    expect(series.map(({ name, dashed }) => [name, dashed])).toEqual([
      ['a', false],
      ['b', false],
      ['bound', true],
    ]);
  });

  it('says where the points are and what they are worth', async () => {
    const { svg, values } = await drawForPage(line);
    expect(values.stops.map(({ title, rows }) => [title, ...rows.map(([index, text]) => [index, text])])).toEqual([
      ['Step 0', [0, '3.00 ± 0.50']],
      ['Step 1', [0, '2.00 ± 0.50'], [1, '2 (1 to 2.5)']],
      ['Step 2', [0, '1.00 ± 0.50'], [1, '4 (3 to 4.5)']],
    ]);
    // The marks of the drawing itself stand at those places.
    const [, dx, dy] = /<g fill="none"[^>]* transform="translate\(([\d.]+),([\d.]+)\)"/.exec(svg)!.map(Number);
    const drawn = [...svg.matchAll(/data-series="1" transform="translate\(([\d.]+),([\d.]+)\)"/g)];
    expect(drawn).toHaveLength(2);
    drawn.forEach(([, x, y], i) => {
      const { at, rows } = values.stops[i + 1];
      expect(at).toBeCloseTo(dx + Number(x), 0);
      expect(rows[1][2]).toBeCloseTo(dy + Number(y), 0);
    });
  });

  it('has one stop for each category of bars', async () => {
    const { svg, values } = await drawForPage({
      description: 'bars',
      value: { title: 'Loss' },
      colours: methodColours(['ipo', 'gr-ipo']),
      bars: [
        { category: 'India (Current national sample)', series: 'ipo', value: 4, low: 3, high: 5, expected: 4.5 },
        { category: 'India (Current national sample)', series: 'gr-ipo', value: 2 },
        { category: 'Nigeria', series: 'gr-ipo', value: 1 },
      ],
    });
    expect(values.stops.map(({ title, rows }) => [title, ...rows.map(([index, text]) => [index, text])])).toEqual([
      ['India (Current national sample)', [0, '4.0 ± 1.0, expected 4.5'], [1, '2']],
      ['Nigeria', [1, '1']],
    ]);
    expect(values.stops[0].at).toBeLessThan(values.stops[1].at);
    expect(count(svg, /data-series="0"/g)).toBe(3);
    expect(count(svg, /data-series="1"/g)).toBe(2);
  });
});

it('errorEnds spans one standard error each way', () => {
  expect(errorEnds({ mean: 3, standard_error: 0.5 })).toEqual({ low: 2.5, high: 3.5 });
  expect(errorEnds({ mean: 3, standard_error: null })).toEqual({});
});

describe('colours', () => {
  it('stay with a method whichever others are there, and never meet', () => {
    const all = methodColours(['dpo', 'is-dpo', 'gr-dpo', 'ipo', 'is-ipo', 'gr-ipo', 'sft', 'gr-hinge']);
    expect(new Set(all.values()).size).toBe(8);
    for (const method of ['ipo', 'gr-ipo']) expect(methodColours([method]).get(method)).toBe(all.get(method));
  });

  it('are distinct for up to eight groups', () => {
    expect(new Set(groupColours([...'abcdefgh']).values()).size).toBe(8);
  });

  it('orders methods by loss and robustness', () => {
    expect(orderMethods(['gr-hinge', 'gr-ipo', 'ipo', 'uniform-ipo', 'sft', 'gr-dpo', 'dpo', 'ipo', 'is-ipo'])).toEqual(
      ['sft', 'dpo', 'gr-dpo', 'ipo', 'uniform-ipo', 'is-ipo', 'gr-ipo', 'gr-hinge'],
    );
    expect(orderMethods(['mine', 'gr-simpo', 'gr-mine', 'simpo', 'gr-cvar-dpo', 'gr-dpo'])).toEqual([
      'gr-dpo',
      'gr-cvar-dpo',
      'simpo',
      'gr-simpo',
      'gr-mine',
      'mine',
    ]);
    // By the alphabet these would come before what they are compared with.
    const moving = ['gr-simpo', 'exp3-simpo', 'max-simpo', 'optimistic-simpo'];
    expect(orderMethods([...moving, 'simpo'])).toEqual([
      'simpo',
      'gr-simpo',
      'optimistic-simpo',
      'max-simpo',
      'exp3-simpo',
    ]);
    expect(methodTitle('gr-ipo')).toBe('GR-IPO');
    expect(methodTitle('is-simpo')).toBe('IS-SimPO');
    expect(methodTitle('gr-reward')).toBe('GR-reward');
    expect(methodTitle('gr-cvar-ipo')).toBe('GR-CVAR-IPO');
    expect(methodTitle('hinge')).toBe('hinge');
    expect(methodTitle('gr-mine')).toBe('gr-mine');
  });
});
