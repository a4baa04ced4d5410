import { Error as ErrorLevel, logger, parse, View } from 'vega';
import { type Config, compile, type TopLevelSpec } from 'vega-lite';
import type { Estimate } from '../statistics.js';
import { GREY } from './palette.js';

/**
 * Figures as SVG text: plain data in, the same bytes out every time, no browser or canvas needed.
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

const WIDTH = 480;
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

/** Curves over a common x, each with its band, and the reference lines. @returns an SVG document */
export function lineChart(chart: LineChart): Promise<string> {
  const xs = chart.series.flatMap((series) => series.points.map((point) => point.x));
  const span = [Math.min(...xs), Math.max(...xs)];
  const references = (chart.references ?? []).map(
    ({ name, y }): Series => ({ name, colour: GREY, dashed: true, points: span.map((x) => ({ x, y })) }),
  );
  const all = [...chart.series, ...references];
  const drawable = ({ x, y }: Point) => (!chart.x.log || x > 0) && (!chart.y.log || y > 0);
  const smallest = Math.min(...all.flatMap((series) => series.points.filter(drawable).map((point) => point.y)));
  const lowest = chart.y.log ? smallest / 2 : Number.NEGATIVE_INFINITY;
  const values = all.flatMap((series) =>
    series.points.filter(drawable).map((point) => ({
      ...point,
      low: point.low === undefined ? undefined : Math.max(point.low, lowest),
      series: series.name,
      colour: series.colour,
      // Single points vanish in a line, and a few measured ones should be seen as such.
      marked: !series.dashed && series.points.length <= 12,
    })),
  );
  const names = all.map((series) => series.name);
  const x = { field: 'x', type: 'quantitative', axis: axis(chart.x, xs), scale: scale(chart.x) } as const;
  const yAxis = axis(
    chart.y,
    values.map((value) => value.y),
  );
  const y = { field: 'y', type: 'quantitative', axis: yAxis, scale: scale(chart.y) } as const;
  const ownColour = { field: 'colour', type: 'nominal', scale: null } as const;
  return render(chart.description, {
    data: { values },
    width: WIDTH,
    height: 260,
    autosize: { type: 'fit-x', contains: 'padding' },
    layer: [
      {
        transform: [{ filter: 'isValid(datum.low) && isValid(datum.high)' }],
        mark: { type: 'area', opacity: 0.2 },
        encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' }, fill: ownColour, detail: { field: 'series' } },
      },
      {
        mark: { type: 'line', strokeWidth: 2 },
        encoding: {
          x,
          y,
          color: {
            field: 'series',
            type: 'nominal',
            scale: { domain: names, range: all.map((series) => series.colour) },
            legend: {
              columns: legendColumns(names, WIDTH - 70, 40),
              symbolType: 'stroke',
              symbolSize: 500,
              symbolStrokeWidth: 2.5,
            },
          },
          strokeDash: {
            field: 'series',
            type: 'nominal',
            scale: { domain: names, range: all.map((series) => (series.dashed ? [6, 4] : [1, 0])) },
          },
        },
      },
      {
        transform: [{ filter: 'datum.marked' }],
        mark: { type: 'point', filled: true, size: 40, opacity: 1 },
        encoding: { x, y, color: ownColour },
      },
    ],
  });
}

/** Horizontal bars from zero, side by side within each category, with error bars. @returns an SVG document */
export function barChart(chart: BarChart): Promise<string> {
  const series = [...chart.colours.keys()].filter((name) => chart.bars.some((bar) => bar.series === name));
  const values = chart.bars.map((bar) => ({ ...bar, category: wrap(bar.category, 18) }));
  const y = {
    field: 'category',
    type: 'nominal',
    sort: [...new Set(values.map((value) => value.category))],
    axis: { title: null, labelExpr: "split(datum.label, '\\n')", labelPadding: 6, ticks: false, domain: false },
    scale: { paddingInner: 0.25, paddingOuter: 0.12 },
  } as const;
  const yOffset = { field: 'series', type: 'nominal', sort: series } as const;
  const ends = values.flatMap((bar) => [bar.value, bar.low ?? bar.value, bar.high ?? bar.value]);
  const x = {
    field: 'value',
    type: 'quantitative',
    axis: axis(chart.value, ends),
    scale: scale({ zero: true, ...chart.value }),
  } as const;
  return render(chart.description, {
    data: { values },
    width: WIDTH,
    height: { step: 18, for: 'offset' },
    autosize: { type: 'fit-x', contains: 'padding' },
    layer: [
      {
        mark: { type: 'bar' },
        encoding: {
          y,
          yOffset,
          x,
          color: {
            field: 'series',
            type: 'nominal',
            scale: { domain: series, range: series.map((name) => chart.colours.get(name)!) },
            legend:
              series.length > 1 ? { columns: legendColumns(series, WIDTH - 160, 25), symbolType: 'square' } : null,
          },
        },
      },
      {
        transform: [{ filter: 'isValid(datum.low) && isValid(datum.high)' }],
        mark: { type: 'rule', color: INK, strokeWidth: 1.5 },
        encoding: { y, yOffset, x: { ...x, field: 'low' }, x2: { field: 'high' } },
      },
      {
        transform: [{ filter: 'isValid(datum.expected)' }],
        mark: { type: 'point', shape: 'diamond', size: 70, filled: true, fill: 'white', stroke: INK, opacity: 1 },
        encoding: { y, yOffset, x: { ...x, field: 'expected' } },
      },
    ],
  });
}

/** Ends of a bar or band of one standard error; none where there is no error. */
export function errorEnds({ mean, standard_error: error }: Estimate): { low?: number; high?: number } {
  return error === null ? {} : { low: mean - error, high: mean + error };
}

function scale({ log, zero = false, domain }: Omit<Axis, 'title'>) {
  const range = domain ? { domain: [...domain] } : {};
  return log ? ({ type: 'log', ...range } as const) : { zero, nice: !domain, ...range };
}

/** Logarithmic axes over two decades and more are labelled at the powers of ten only. */
function axis({ title: text, log }: Axis, data: readonly number[]) {
  const title = wrap(text, 38).split('\n');
  if (!log) return { title, tickCount: 5, grid: true };
  const positive = data.filter((value) => value > 0);
  const first = Math.floor(Math.log10(Math.min(...positive)));
  const last = Math.ceil(Math.log10(Math.max(...positive)));
  const powers = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  return { title, format: first >= 0 ? '~s' : '~g', grid: true, ...(powers.length > 2 ? { values: powers } : {}) };
}

/**
 * As many legend columns as fit `width`. Without a canvas Vega takes every character for 0.8 of the font size wide.
 *
 * @param symbol width of a legend's symbol with the space around it
 */
function legendColumns(names: readonly string[], width: number, symbol: number): number {
  const longest = Math.max(...names.map((name) => name.length));
  return Math.max(1, Math.floor(width / (longest * FONT_SIZE * 0.8 + symbol)));
}

/** Breaks a long label at spaces into lines of at most `length` characters. */
function wrap(label: string, length: number): string {
  return label.replaceAll(new RegExp(`(.{1,${length}})(?:\\s+|$)`, 'g'), '$1\n').trim();
}

async function render(description: string, spec: TopLevelSpec): Promise<string> {
  // Vega-Lite warns of every sizing decision it makes; only errors concern the user.
  const { spec: vega } = compile({ ...spec, config: CONFIG }, { logger: logger(ErrorLevel) });
  const view = new View(parse(vega), { renderer: 'none', logLevel: ErrorLevel });
  const svg = await view.toSVG();
  view.finalize();
  return svg.replace('<svg ', () => `<svg role="img" aria-label="${escapeXml(description)}" `);
}

/** For text and for double-quoted attributes of XML and HTML. */
export function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
