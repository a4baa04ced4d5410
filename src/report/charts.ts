import { Error as ErrorLevel, logger, parse, View } from 'vega';
import { type Config, compile, type TopLevelSpec } from 'vega-lite';
import { present } from '../errors.js';
import { largest, smallest } from '../numbers/extremes.js';
import type { Estimate } from '../numbers/statistics.js';
import { formatEstimate, formatNumber } from '../terminal/format.js';
import { printable, shortName } from '../terminal/names.js';
import { plainText } from '../terminal/output.js';
import { groupBy } from './group-by.js';
import { GREY } from './palette.js';

/**
 * Figures as SVG text: plain data in, the same bytes out every time, no browser or canvas needed. A chart is drawn either
 * to stand alone, with its legend ({@link drawChart}), or for a page that has a legend and tooltips of its own
 * ({@link drawForPage}).
 *
 * All figures are drawn {@link WIDTH} wide with type large enough to be read when a phone shrinks them to its own width.
 */

/** One point of a curve, with the confidence band around it where there is one. */
export interface Point {
  x: number;
  y: number;
  low?: number;
  high?: number;
}

export interface Series {
  /** Shown in the legend; unique in the figure. */
  name: string;
  points: readonly Point[];
  colour: string;
  /** For what is not measured (a bound, a guide), or to tell apart series of one colour. */
  dashed?: boolean;
}

export interface Axis {
  /** With the unit, where there is one. */
  title: string;
  /** Logarithmic; points at or below zero are left out, bands are cut off below the data. */
  log?: boolean;
  /** The scale begins at zero. */
  zero?: boolean;
  /** The range to show, the same over several figures that are to be compared. */
  domain?: readonly [number, number];
}

export interface LineChart {
  /** What the figure shows, for readers who cannot see it. */
  description: string;
  x: Axis;
  y: Axis;
  series: readonly Series[];
  /** Horizontal lines across the figure, such as a bound or the uniform weight. */
  references?: readonly { name: string; y: number }[];
}

export interface Bar {
  category: string;
  series: string;
  value: number;
  /** Ends of the error bar. */
  low?: number;
  high?: number;
  /** Drawn as a diamond: the value the bar should have. */
  expected?: number;
}

export interface BarChart {
  description: string;
  value: Axis;
  bars: readonly Bar[];
  /** Colour by series, in the order of the legend. */
  colours: ReadonlyMap<string, string>;
}

export type Chart = LineChart | BarChart;

/** A chart without legend, each of whose marks says in `data-series` which series it belongs to, by index. */
export interface PageDrawing {
  svg: string;
  /** `bar`: a filled square in the legend; else a line. */
  series: readonly { name: string; colour: string; dashed: boolean; bar: boolean }[];
  values: ChartValues;
}

/** What is under a cursor: positions in the units of the SVG's viewBox, values as text for the reader. */
export interface ChartValues {
  /** The direction in which the cursor moves: over x for curves, over the categories for bars. */
  axis: 'x' | 'y';
  /** The plot's own rectangle: left, top, right, bottom. */
  plot: readonly [number, number, number, number];
  /** In the order of `at`; rows are [series, value as text, position across the axis]. */
  stops: readonly { at: number; title: string; rows: readonly (readonly [number, string, number])[] }[];
}

/** @returns an SVG document with its legend */
export async function drawChart(chart: Chart): Promise<string> {
  return (await render(chart.description, spec(chart, true))).svg;
}

export async function drawForPage(chart: Chart): Promise<PageDrawing> {
  const { svg, scale } = await render(chart.description, spec(chart, false));
  // The plot's place inside the margins that axis titles and labels need.
  const place = present(/<g fill="none"[^>]* transform="translate\(([\d.]+),([\d.]+)\)"/.exec(svg) ?? undefined);
  const [left, top] = [Number(place[1]), Number(place[2])];
  const [right, bottom] = [left + Math.max(...scale('x').range()), top + Math.max(...scale('y').range())];
  const stops = 'bars' in chart ? barStops(chart, scale, top) : lineStops(chart, scale, left, top);
  const bar = 'bars' in chart;
  return {
    svg,
    series: bar
      ? barSeries(chart).map((name) => ({ name, colour: present(chart.colours.get(name)), dashed: false, bar }))
      : lineSeries(chart).map(({ name, colour, dashed = false }) => ({ name, colour, dashed, bar })),
    values: {
      axis: bar ? 'y' : 'x',
      plot: [round(left), round(top), round(right), round(bottom)],
      stops,
    },
  };
}

function spec(chart: Chart, legend: boolean): TopLevelSpec {
  return 'bars' in chart ? barSpec(chart, legend) : lineSpec(chart, legend);
}

/** A scale of a drawn view: data → pixels of the plot. */
type Scale = ((value: number) => number) & { range(): number[]; bandwidth?(): number };

function lineStops(chart: LineChart, scale: (name: string) => Scale, left: number, top: number) {
  const [x, y] = [scale('x'), scale('y')];
  const points = chart.series.flatMap((series, index) =>
    series.points.filter((point) => drawable(chart, point)).map((point) => ({ ...point, index })),
  );
  return [...groupBy(points, (point) => String(point.x)).values()]
    .map((members) => ({ at: present(members[0]).x, members }))
    .sort((a, b) => a.at - b.at)
    .map(({ at, members }) => ({
      at: round(left + x(at)),
      title: `${chart.x.title} ${formatNumber(at, 6)}`,
      rows: members.map((point) => [point.index, valueText(point.y, point), round(top + y(point.y))] as const),
    }));
}

function barStops(chart: BarChart, scale: (name: string) => Scale, top: number) {
  const [x, y] = [scale('x'), scale('y')];
  const series = barSeries(chart);
  const categories = categoriesOf(chart);
  return [...groupBy(chart.bars, (bar) => bar.category)].map(([category, bars]) => ({
    at: round(top + y(categories.indexOf(category)) + (y.bandwidth?.() ?? 0) / 2),
    title: printable(category),
    rows: bars.map((bar) => {
      const expected = bar.expected === undefined ? '' : `, expected ${formatNumber(bar.expected)}`;
      return [series.indexOf(bar.series), valueText(bar.value, bar) + expected, round(x(bar.value))] as const;
    }),
  }));
}

function valueText(value: number, { low, high }: { low?: number; high?: number }): string {
  if (low === undefined || high === undefined) return formatNumber(value);
  const even = Math.abs(high - value - (value - low)) <= 1e-6 * (high - low);
  if (even) return formatEstimate({ mean: value, standard_error: high - value });
  return `${formatNumber(value)} (${formatNumber(low)} to ${formatNumber(high)})`;
}

function round(pixels: number): number {
  return Math.round(pixels * 10) / 10;
}

const WIDTH = 480;
const CATEGORY_LENGTH = 18;
const INK = '#1a1a1a';
const FONT_SIZE = 13;

const CONFIG: Config = {
  aria: false, // The whole figure is one image with one description; roles on its strokes would only be noise.
  background: 'white',
  font: 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif',
  view: { stroke: null },
  axis: {
    labelFontSize: FONT_SIZE,
    titleFontSize: FONT_SIZE,
    titleFontWeight: 'normal',
    labelColor: INK,
    titleColor: INK,
    gridColor: '#e4e4e4',
    domainColor: '#888888',
    tickColor: '#888888',
    labelLimit: 0,
    titleLimit: 0,
  },
  legend: {
    labelFontSize: FONT_SIZE,
    labelColor: INK,
    labelLimit: 0,
    title: null,
    orient: 'top',
    direction: 'horizontal',
  },
};

/** What a logarithmic axis cannot show is left out. */
function drawable(chart: LineChart, { x, y }: Point): boolean {
  return (!chart.x.log || x > 0) && (!chart.y.log || y > 0);
}

/** The series, then the reference lines from the first x to the last. */
function lineSeries(chart: LineChart): Series[] {
  const xs = chart.series.flatMap((series) => series.points.map((point) => point.x));
  const span = [smallest(xs), largest(xs)];
  const references = (chart.references ?? []).map(
    ({ name, y }): Series => ({ name, colour: GREY, dashed: true, points: span.map((x) => ({ x, y })) }),
  );
  return [...chart.series, ...references];
}

/** Curves over a common x, each with its band, and the reference lines. */
function lineSpec(chart: LineChart, legend: boolean): TopLevelSpec {
  const all = lineSeries(chart);
  const xs = chart.series.flatMap((series) => series.points.map((point) => point.x));
  const shown = all.map((series) => ({ series, points: series.points.filter((point) => drawable(chart, point)) }));
  const least = smallest(shown.flatMap(({ points }) => points.map((point) => point.y)));
  const lowest = chart.y.log ? least / 2 : Number.NEGATIVE_INFINITY;
  const values = shown.flatMap(({ series, points }, index) =>
    points.map((point) => ({
      ...point,
      index,
      low: point.low === undefined ? undefined : Math.max(point.low, lowest),
      colour: series.colour,
      // Single points vanish in a line, and a few measured ones should be seen as such.
      marked: !series.dashed && series.points.length <= 12,
    })),
  );
  const labels = all.map((series) => shortName(series.name));
  const indices = [...all.keys()];
  const x = { field: 'x', type: 'quantitative', axis: axis(chart.x, xs), scale: scale(chart.x) } as const;
  const ys = values.map((value) => value.y);
  const yAxis = levelTitle(axis(chart.y, ys));
  const y = { field: 'y', type: 'quantitative', axis: yAxis, scale: scale(chart.y) } as const;
  const ownColour = { field: 'colour', type: 'nominal', scale: null } as const;
  return {
    data: { values },
    params: [{ name: 'seriesLabels', value: labels }],
    width: WIDTH,
    height: 260,
    autosize: { type: 'fit-x', contains: 'padding' },
    layer: [
      {
        transform: [{ filter: 'isValid(datum.low) && isValid(datum.high)' }],
        mark: { type: 'area', opacity: 0.2, aria: true },
        encoding: {
          x,
          y: { ...y, field: 'low' },
          y2: { field: 'high' },
          fill: ownColour,
          detail: { field: 'index' },
          description: seriesIndex,
        },
      },
      {
        mark: { type: 'line', strokeWidth: 2, aria: true },
        encoding: {
          x,
          y,
          description: seriesIndex,
          color: {
            field: 'index',
            type: 'nominal',
            scale: { domain: indices, range: all.map((series) => series.colour) },
            legend: legend
              ? {
                  columns: legendColumns(labels, WIDTH - 70, 40),
                  labelExpr: LABEL_OF.series,
                  offset: 26 - yAxis.titleY, // Above the axis title too.
                  symbolType: 'stroke',
                  symbolSize: 500,
                  symbolStrokeWidth: 2.5,
                }
              : null,
          },
          strokeDash: {
            field: 'index',
            type: 'nominal',
            scale: { domain: indices, range: all.map((series) => (series.dashed ? [6, 4] : [1, 0])) },
            ...(legend ? {} : { legend: null }),
          },
        },
      },
      {
        transform: [{ filter: 'datum.marked' }],
        mark: { type: 'point', filled: true, size: 40, opacity: 1, aria: true },
        encoding: { x, y, color: ownColour, description: seriesIndex },
      },
    ],
  };
}

/** In the order of their first bars. */
function categoriesOf({ bars }: BarChart): string[] {
  return [...new Set(bars.map(({ category }) => category))];
}

/** The series that have bars, in the order of the legend. */
function barSeries(chart: BarChart): string[] {
  return [...chart.colours.keys()].filter((name) => chart.bars.some((bar) => bar.series === name));
}

/** Horizontal bars from zero, side by side within each category, with error bars. */
function barSpec(chart: BarChart, legend: boolean): TopLevelSpec {
  const series = barSeries(chart);
  const categories = categoriesOf(chart);
  const labels = series.map((name) => shortName(name));
  const categoryLabels = categories.map((name) => wrap(shortName(name), CATEGORY_LENGTH).split('\n'));
  const values = chart.bars.map((bar) => ({
    ...bar,
    category: categories.indexOf(bar.category),
    index: series.indexOf(bar.series),
  }));
  const y = {
    field: 'category',
    type: 'nominal',
    sort: [...categories.keys()],
    axis: { title: null, labelExpr: LABEL_OF.category, labelPadding: 6, ticks: false, domain: false },
    scale: { paddingInner: 0.25, paddingOuter: 0.12 },
  } as const;
  const yOffset = { field: 'index', type: 'nominal', sort: [...series.keys()] } as const;
  const ends = values.flatMap((bar) => [bar.value, bar.low ?? bar.value, bar.high ?? bar.value]);
  const x = {
    field: 'value',
    type: 'quantitative',
    axis: axis(chart.value, ends),
    scale: scale({ zero: true, ...chart.value }),
  } as const;
  return {
    data: { values },
    params: [
      { name: 'seriesLabels', value: labels },
      { name: 'categoryLabels', value: categoryLabels },
    ],
    width: WIDTH,
    height: { step: 18, for: 'offset' },
    autosize: { type: 'fit-x', contains: 'padding' },
    layer: [
      {
        mark: { type: 'bar', aria: true },
        encoding: {
          y,
          yOffset,
          x,
          description: seriesIndex,
          color: {
            field: 'index',
            type: 'nominal',
            scale: { domain: [...series.keys()], range: series.map((name) => present(chart.colours.get(name))) },
            legend:
              legend && series.length > 1
                ? { columns: legendColumns(labels, WIDTH - 160, 25), labelExpr: LABEL_OF.series, symbolType: 'square' }
                : null,
          },
        },
      },
      {
        transform: [{ filter: 'isValid(datum.low) && isValid(datum.high)' }],
        mark: { type: 'rule', color: INK, strokeWidth: 1.5, aria: true },
        encoding: { y, yOffset, x: { ...x, field: 'low' }, x2: { field: 'high' }, description: seriesIndex },
      },
      {
        transform: [{ filter: 'isValid(datum.expected)' }],
        mark: {
          type: 'point',
          shape: 'diamond',
          size: 70,
          filled: true,
          fill: 'white',
          stroke: INK,
          opacity: 1,
          aria: true,
        },
        encoding: { y, yOffset, x: { ...x, field: 'expected' }, description: seriesIndex },
      },
    ],
  };
}

/** Ends of a bar or band of one standard error; none where there is no error. */
export function errorEnds({ mean, standard_error: error }: Estimate): { low?: number; high?: number } {
  return error === null ? {} : { low: mean - error, high: mean + error };
}

function scale({ log, zero = false, domain }: Omit<Axis, 'title'>) {
  const range = domain ? { domain: [...domain] } : {};
  return log ? ({ type: 'log', ...range } as const) : { zero, nice: !domain, ...range };
}

/** The title level, above its axis: a turned one is hard to read, and where it is longer than the axis it moves the plot. */
function levelTitle<T extends { title: string[] }>(axis: T) {
  const titleY = -8 - (axis.title.length - 1) * (FONT_SIZE + 2);
  return { ...axis, titleAngle: 0, titleAlign: 'left', titleBaseline: 'bottom', titleX: 0, titleY } as const;
}

/** Logarithmic axes over two decades and more are labelled at the powers of ten only. */
function axis({ title: text, log }: Axis, data: readonly number[]) {
  const title = wrap(text, 40).split('\n');
  if (!log) return { title, tickCount: 5, grid: true };
  const positive = data.filter((value) => value > 0);
  const first = Math.floor(Math.log10(smallest(positive)));
  const last = Math.ceil(Math.log10(largest(positive)));
  const powers = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  return { title, format: first >= 0 ? '~s' : '~g', grid: true, ...(powers.length > 2 ? { values: powers } : {}) };
}

/**
 * As many legend columns as fit `width`. Without a canvas Vega takes every character for 0.8 of the font size wide.
 *
 * @param symbol width of a legend's symbol with the space around it
 */
function legendColumns(names: readonly string[], width: number, symbol: number): number {
  const longest = largest(names.map((name) => name.length));
  return Math.max(1, Math.floor(width / (longest * FONT_SIZE * 0.8 + symbol)));
}

/** Breaks a long label at spaces into lines of at most `length` characters. */
function wrap(label: string, length: number): string {
  return label.replaceAll(new RegExp(`(.{1,${length}})(?:\\s+|$)`, 'g'), '$1\n').trim();
}

/** Vega knows series and categories by their index only, so that no name can be more than a label to it. */
const LABEL_OF = { series: 'seriesLabels[datum.value]', category: 'categoryLabels[datum.value]' } as const;

/** Vega's description of a mark is the one place where a datum can be written into its element; {@link render} moves it. */
const seriesIndex = { field: 'index', type: 'nominal' } as const;

async function render(description: string, spec: TopLevelSpec): Promise<{ svg: string; scale(name: string): Scale }> {
  // Vega-Lite warns of every sizing decision it makes; only errors concern the user.
  const { spec: vega } = compile({ ...spec, config: CONFIG }, { logger: logger(ErrorLevel) });
  const view = new View(parse(vega), { renderer: 'none', logLevel: ErrorLevel });
  const svg = await view.toSVG();
  view.finalize();
  return {
    svg: plainText(svg)
      .replaceAll(/ aria-label="(\d+)" role="graphics-symbol" aria-roledescription="[^"]*"/g, ' data-series="$1"')
      .replaceAll(/ role="graphics-[a-z]+" aria-roledescription="[^"]*"/g, '')
      .replace('<svg ', () => `<svg role="img" aria-label="${escapeXml(printable(description))}" `),
    scale: (name) => view.scale(name) as unknown as Scale,
  };
}

/** For text and for double-quoted attributes of XML and HTML; what XML cannot hold in any form, which names from anyone's data may, is written out. */
export function escapeXml(text: string): string {
  return plainText(text)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
