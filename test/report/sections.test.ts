import { describe, expect, it } from 'vitest';
import type { ComparisonRow } from '../../src/bandit/comparison.js';
import { figuresNumbered } from '../../src/bandit/paper-figures.js';
import type { HistoryEntry, MethodRun, SeedResult } from '../../src/bandit/run.js';
import { drawChart } from '../../src/report/charts.js';
import { renderPage, type Section } from '../../src/report/html.js';
import { banditBars, banditCurves, banditSection } from '../../src/report/sections/bandit.js';
import { comparisonFigures } from '../../src/report/sections/comparison.js';
import { convergenceSection } from '../../src/report/sections/convergence.js';
import type { Convergence } from '../../src/theory/convergence.js';
import { expectSoundPage, tableOf } from './page.js';

const render = (section: Section) =>
  renderPage({ title: 'Title', summary: 'Summary', sections: [section], environment: {}, config: [] });

const row = (
  scenario: string,
  method: ComparisonRow['method'],
  quantity: ComparisonRow['quantity'],
  measured: number,
  outcome: ComparisonRow['outcome'] = 'holds',
): ComparisonRow => ({
  scenario,
  arm: method,
  method,
  quantity,
  measured,
  measuredError: measured / 100,
  expected: measured * 1.01,
  expectedError: null,
  tolerance: measured / 20,
  outcome,
});

describe('banditSection', () => {
  const rows = [
    row('even', 'ipo', 'max validation loss', 25.45),
    row('even', 'ipo', 'relative max reward error', 0.0956),
    row('even', 'dpo', 'max validation loss', 0.912),
    row('even', 'gr-ipo', 'max validation loss', 16.96, 'fails'),
    row('even', 'gr-ipo', 'alpha of group 0', 0.4847),
  ];

  it('puts measured beside expected, with marks, one line per scenario and method', async () => {
    const html = await render(banditSection(rows, { seeds: 20, figures: [] }));
    expectSoundPage(html);
    expect(
      tableOf(
        html,
        'Measured values (✓ where they agree) and expected ones, which are re-measured, not printed by the paper',
      ),
    ).toEqual([
      [
        'Scenario',
        'Method',
        'Worse-group loss',
        'expected',
        'Relative reward error',
        'expected',
        'α of group 0',
        'expected',
      ],
      ['even', 'IPO', '25.45 ± 0.25 ✓', '25.7', '0.09560 ± 0.00096 ✓', '0.09656', '', ''],
      ['even', 'DPO', '0.9120 ± 0.0091 ✓', '0.9211', '', '', '', ''],
      ['even', 'GR-IPO', '16.96 ± 0.17 ✗', '17.13', '', '', '0.4847 ± 0.0048 ✓', '0.4895'],
    ]);
  });

  it('draws losses of different units apart', async () => {
    const figures = banditBars(rows);
    expect(figures.map(({ caption }) => caption.split(',')[0])).toEqual([
      'Worse-group loss (IPO',
      'Worse-group loss (DPO',
      'Relative reward error',
      'α of group 0',
    ]);
  });

  it('says what holds and what does not', () => {
    const claim = { claim: 'A claim', outcome: 'unclear', detail: '' } as const;
    const { checks } = banditSection(rows, { seeds: 20, claims: [claim], figures: [] });
    expect(checks).toEqual([expect.objectContaining({ outcome: 'fails' }), claim]);
    expect(checks?.[0].detail).toBe('4 of 5 within three standard errors of the difference');
    const near = rows.map((each) => (each.outcome === 'fails' ? { ...each, outcome: 'unclear' as const } : each));
    const [agreement] = banditSection(near, { seeds: 20, figures: [] }).checks ?? [];
    expect(agreement).toMatchObject({ outcome: 'unclear', detail: expect.stringMatching(/difference, 1 unclear$/) });
  });

  it('draws histories over iterations, one figure per loss and metric', async () => {
    const entry = (iteration: number, seed: number): HistoryEntry => ({
      iteration,
      validationLosses: [1, 2],
      validationAccuracies: [],
      maxValidationLoss: 20 - iteration / 10 + seed,
      maxRelativeRewardError: 0.1,
      maxAbsoluteRewardError: 0.2,
      maxDivergence: 0.3,
      alpha: [0.5, 0.5],
      weights: [0.5, 0.5],
    });
    const run = (seed: number, last: number): MethodRun => ({
      ...entry(last, seed),
      theta: [0],
      history: [0, last / 2, last].map((iteration) => entry(iteration, seed)),
    });
    const [figure] = figuresNumbered(2);
    const results = [0, 1].map((seed): SeedResult => {
      const { setting, arms } = figure;
      return { setting, seed, runs: arms.map(({ settings }) => run(seed, settings.iterations)) };
    });
    const figures = banditCurves({ figure, results, rows: [] });
    expectSoundPage(await render(banditSection(rows, { seeds: 2, figures })));
    expect(figures.map(({ name }) => name)).toEqual([
      'worse-group-loss-dpo',
      'reward-error-dpo',
      'alpha-dpo',
      'worse-group-loss-ipo',
      'reward-error-ipo',
      'alpha-ipo',
    ]);
    for (const { caption } of figures) expect(caption).toMatch(/over iterations: \(iii\)/);
    const drawn = await Promise.all(figures.map(({ chart }) => drawChart(chart)));
    for (const svg of drawn) expect(svg.match(/mark-line role-mark/g)).toHaveLength(3);
    // IPO is exact at once, and its line goes on for as long as GR-IPO's.
    const ends = [...drawn[5].matchAll(/<path[^>]* d="M[^"]*L([\d.]+),[\d.]+"[^>]*stroke-width="2"/g)];
    expect(new Set(ends.map(([, x]) => x)).size).toBe(1);
    expect(ends).toHaveLength(3);
  });

  it('shows no marks and no expected values where there are none', async () => {
    const bare = rows.map((row) => ({ ...row, expected: null, tolerance: null, outcome: null }));
    const section = banditSection(bare, { title: 'Figure 9', seeds: 20, figures: banditBars(bare) });
    expect(section.checks).toEqual([]);
    const html = await render(section);
    expectSoundPage(html);
    expect(tableOf(html, 'Measured values')[1]).toEqual(['even', 'IPO', '25.45 ± 0.25', '0.09560 ± 0.00096', '']);
  });
});

describe('convergenceSection', () => {
  const result: Convergence = {
    loss: { loss: 'dpo', beta: 1 },
    seed: 2021,
    algorithm: 1,
    order: 'simultaneous',
    constants: { B_phi: 0.70395, B_grad: 0.70395, B_l: 7.0404, B_theta: 10, rho: 5, groups: 2, pairs: 300 },
    minimax: {
      value: 0.474098,
      theta: Float64Array.of(3.4, 5.8),
      alpha: Float64Array.of(0.86, 0.14),
      lower: 0.47409799,
      upper: 0.47409801,
    },
    start_error: 0.21,
    premises: { step_rates: { theta: -0.5, alpha: -0.5 }, replay_distance: 1e-16 },
    horizons: [
      {
        T: 1000,
        error: 0.1548,
        error_interval: [0.14, 0.17],
        duality_gap: 0.2361,
        duality_gap_interval: [0.22, 0.25],
        last_error: 0.2,
        bound: 4.864,
        past_burn_in: false,
      },
      {
        T: 100000,
        error: 0.0456,
        error_interval: [0.04, 0.05],
        duality_gap: 0.0531,
        duality_gap_interval: [0.05, 0.06],
        last_error: 0.06,
        bound: 0.4864,
        past_burn_in: true,
      },
    ],
    rate: { slope: -0.52, interval: [-0.58, -0.47] },
    outcome: 'holds',
    holds: true,
    reasons: [],
  };

  it('shows every number of the check', async () => {
    const html = await render(convergenceSection(result));
    expectSoundPage(html);
    expect(tableOf(html, 'Error by horizon').slice(1)).toEqual([
      ['simultaneous', '1,000', '0.1548', '0.14 to 0.17', '0.2361', '4.864', '0.2'],
      ['simultaneous', '100,000', '0.0456', '0.04 to 0.05', '0.0531', '0.4864', '0.06'],
    ]);
    expect(tableOf(html, 'Constants of the bound').map(([, value]) => value)).toEqual([
      'Value',
      '0.70395',
      '0.70395',
      '7.0404',
      '10',
      '5',
      '2',
      '300',
    ]);
    expect(html).toContain('the fitted slope is −0.52, 95 % interval −0.58 to −0.47');
  });

  it('draws the guide with slope −1/2 through the last error', async () => {
    const [{ chart }] = convergenceSection(result).figures!;
    const svg = await drawChart(chart);
    const guide = /<path[^>]* d="M([\d.]+),([\d.]+)L([\d.]+),([\d.]+)"[^>]*stroke="#666666"/.exec(svg);
    const bound = /<path[^>]* d="M([\d.]+),([\d.]+)L([\d.]+),([\d.]+)"[^>]*stroke="#D55E00"/.exec(svg);
    // The bound has slope −1/2 by its nature: from 4.864 to 0.4864 over two decades.
    const drop = (match: RegExpExecArray | null) => Number(match?.[4]) - Number(match?.[2]);
    expect(drop(guide)).toBeGreaterThan(0);
    expect(drop(guide)).toBeCloseTo(drop(bound), 1);
  });

  it('says so when the claim fails, with the reasons, and where no rate could be fitted', async () => {
    const reasons = ['error above the bound at T = 1000', 'no rate'];
    const section = convergenceSection({ ...result, rate: null, outcome: 'fails', holds: false, reasons });
    expect(section.checks).toEqual([
      {
        claim: expect.stringContaining('Proposition 4.1'),
        outcome: 'fails',
        detail: 'no rate could be fitted; error above the bound at T = 1000; no rate',
      },
    ]);
  });

  it('has the alternating order beside it, with a claim, rows and a curve of its own', async () => {
    const { premises, horizons, rate } = result;
    const alternating = {
      algorithm: 1,
      order: 'alternating',
      premises,
      horizons,
      rate,
      outcome: 'unclear',
      holds: false,
    } as const;
    const section = convergenceSection({ ...result, alternating: { ...alternating, reasons: ['too short'] } });
    expect(section.checks?.map(({ outcome }) => outcome)).toEqual(['holds', 'unclear']);
    expect(section.checks?.[1].claim).toMatch(/alternating.*no proof covers/);
    const html = await render(section);
    expectSoundPage(html);
    expect(tableOf(html, 'Error by horizon').map(([order]) => order)).toEqual([
      'Order',
      ...['simultaneous', 'alternating'].flatMap((order) => [order, order]),
    ]);
    expect(html).toContain('Error, alternating order');
  });
});

describe('comparisonFigures', () => {
  const horizon = (samples: number, error: number) => ({
    samples,
    steps: samples,
    error,
    error_interval: [0.9 * error, 1.1 * error] as [number, number],
    duality_gap: 2 * error,
    duality_gap_interval: [1.8 * error, 2.2 * error] as [number, number],
    last_error: error / 4,
    last_error_interval: [error / 5, error / 3] as [number, number],
    bound: null,
    past_burn_in: true,
  });
  const compared = (algorithm: 1 | 'exp3', error: number) => ({
    algorithm,
    horizons: [horizon(100, error), horizon(10_000, error / 10)],
    rate: null,
    outcome: 'holds' as const,
    reasons: [],
  });

  it('have a curve with its band for each algorithm, whose colour is the same in all', async () => {
    const figures = comparisonFigures({ algorithms: [compared(1, 0.5), compared('exp3', 0.2)] });
    expect(figures.map(({ name }) => name)).toEqual(['duality-gap', 'error', 'last-error']);
    for (const { chart } of figures) expect(await drawChart(chart)).toMatch(/^<svg[\s\S]*Algorithm 1[\s\S]*EXP3/);
    const curves = figures.map(({ chart }) => ('series' in chart ? chart.series : []));
    expect(curves[0].map(({ name, points }) => [name, ...points])).toEqual([
      [
        'Algorithm 1',
        { x: 100, y: 1, low: 0.9, high: 1.1 },
        { x: 10_000, y: 0.1, low: expect.closeTo(0.09), high: expect.closeTo(0.11) },
      ],
      ['EXP3', { x: 100, y: 0.4, low: expect.closeTo(0.36), high: expect.closeTo(0.44) }, expect.anything()],
    ]);
    expect(curves.map((series) => series.map(({ points: [{ y }] }) => y))).toEqual([
      [1, 0.4],
      [0.5, 0.2],
      [0.125, 0.05],
    ]);
    const colours = curves.map((series) => series.map(({ colour }) => colour));
    expect(colours).toEqual([colours[0], colours[0], colours[0]]);
    expect(colours[0][0]).not.toBe(colours[0][1]);
  });
});
