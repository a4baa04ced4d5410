import { appendFileSync, cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { registerReport } from '../../src/cli/report.js';
import { InputError } from '../../src/errors.js';
import { formatEstimate } from '../../src/report/format.js';
import { readRun } from '../../src/report/runs.js';
import { runsPage } from '../../src/report/runs-page.js';
import { finalScores, groupNames, writeFakeRuns } from './fake-runs.js';
import { expectSoundPage, tableOf } from './page.js';

let folders: string[];
beforeEach(() => {
  folders = writeFakeRuns();
});
afterEach(() => rmSync(dirname(folders[0]), { recursive: true }));

const seeds = [0, 1, 2];
const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

/** Mean ± s/√3 of three values, worked out here. */
function overSeeds(value: (seed: number) => number): string {
  const values = seeds.map(value);
  const mean = (values[0] + values[1] + values[2]) / 3;
  const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 2;
  return formatEstimate({ mean, standard_error: Math.sqrt(variance / 3) });
}

const changeFile = (folder: string, name: string, change: (value: Record<string, unknown>) => void) => {
  const value = JSON.parse(readFileSync(join(folder, name), 'utf8'));
  change(value);
  writeFileSync(join(folder, name), JSON.stringify(value));
};

describe('the page of several runs', () => {
  const read = async () => runsPage(await Promise.all(folders.map(readRun)));

  it('is sound: bars for loss and accuracy, three curves, α, in stable order', async () => {
    const html = await read();
    expectSoundPage(html);
    expect(html.match(/<figure>/g)).toHaveLength(6);
    folders.reverse();
    expect((await read()).split('<details>')[0]).toBe(html.split('<details>')[0]);
  });

  it('explains error bars and bands', async () => {
    const html = await read();
    expect(html).toContain('error bars: ± one standard error over seeds');
    expect(html).toContain('bands: ± one standard error over seeds');
  });

  it('has scores of every method with standard errors', async () => {
    const [, ...rows] = tableOf(await read(), 'Final test, mean ± standard error over seeds');
    (['ipo', 'gr-ipo'] as const).forEach((method, i) => {
      const losses = (seed: number) => finalScores(method, seed).losses;
      expect(rows[i]).toEqual([
        method.toUpperCase(),
        '3',
        overSeeds((seed) => losses(seed)[2]),
        overSeeds((seed) => losses(seed)[2] - losses(seed)[0]),
        overSeeds((seed) => (losses(seed)[0] + losses(seed)[1] + losses(seed)[2]) / 3),
        // 40, 30 and 20 test pairs.
        overSeeds((seed) => (4 * losses(seed)[0] + 3 * losses(seed)[1] + 2 * losses(seed)[2]) / 9),
        overSeeds((seed) => finalScores(method, seed).accuracies[2]),
        `${escaped(groupNames[2])} (3)`,
      ]);
    });
  });

  it('pairs methods by seed: the difference has a far smaller error than the means', async () => {
    const html = await read();
    const [, row] = tableOf(html, 'Paired differences over seeds, mean ± standard error');
    const difference = overSeeds((seed) => finalScores('gr-ipo', seed).losses[2] - finalScores('ipo', seed).losses[2]);
    expect(row.slice(0, 3)).toEqual(['GR-IPO\u00a0−\u00a0IPO', '3', difference]);
    expect(html).toContain(
      `<li><span class="holds">✓ holds</span> The worst-group loss of GR-IPO is below that of IPO by more than two standard errors: difference ${difference}, paired over 3 seeds.</li>`,
    );
  });

  it('has loss and accuracy of every group', async () => {
    const html = await read();
    for (const [caption, key] of [
      ['Loss of each group, mean ± standard error over seeds', 'losses'],
      ['Reward accuracy of each group, mean ± standard error over seeds', 'accuracies'],
    ] as const)
      expect(tableOf(html, caption)).toEqual([
        ['Group', 'Test pairs', 'IPO', 'GR-IPO'],
        ...groupNames.map((name, g) => [
          escaped(name),
          String(40 - 10 * g),
          overSeeds((seed) => finalScores('ipo', seed)[key][g]),
          overSeeds((seed) => finalScores('gr-ipo', seed)[key][g]),
        ]),
      ]);
  });

  it('shows environment and configurations', async () => {
    const html = await read();
    const environment = tableOf(html, 'Where and with what this was made');
    expect(environment).toContainEqual(['versions node', 'v20.17.0']);
    expect(environment).toContainEqual(['groups Nigeria train', '80']);
    const created = environment.find(([name]) => name === 'created');
    expect(created?.[1]).toMatch(/^2026-01-01T00:00:\d\dZ … 2026-01-01T00:02:\d\dZ \(6 different\)$/);
    expect(html.match(/<details>/g)).toHaveLength(6);
    expect(html).toContain('weights: mirror-ascent');
  });

  it('reports a robust method that does no better as failing', async () => {
    for (const folder of folders.slice(3))
      changeFile(folder, 'evaluation.json', ({ groups }) => {
        (groups as Record<string, { loss: number }>)[groupNames[0]].loss = 30;
      });
    expect(await read()).toContain('<span class="fails">✗ fails</span> The worst-group loss of GR-IPO');
  });

  it('pairs no runs that saw different data, and compares no losses of different β', async () => {
    changeFile(folders[5], 'run.json', (run) => {
      run.dataHash = 'other';
    });
    expect(await read()).toContain('paired over 2 seeds');
    for (const folder of folders.slice(3))
      writeFileSync(join(folder, 'config.yaml'), 'objective: { loss: ipo, beta: 0.2, weights: mirror-ascent }\n');
    const html = await read();
    expect(html).not.toContain('Paired differences over seeds, mean');
    expect(html).toContain('IPO loss (β = 0.1)');
    expect(html).toContain('IPO loss (β = 0.2)');
  });

  it('gives no standard error to one seed', async () => {
    folders = [folders[0], folders[3]];
    const html = await read();
    expect(html).toContain('which says nothing about chance');
    expect(tableOf(html, 'Final test, mean ± standard error over seeds')[1][2]).toBe('9');
    expect(html).not.toMatch(/(error bars|bands): ±/);
  });

  it('takes runs that have no rewards, such as SFT', async () => {
    for (const folder of folders.slice(0, 3)) {
      changeFile(folder, 'run.json', (run) => {
        run.method = 'sft';
      });
      changeFile(folder, 'evaluation.json', ({ groups }) => {
        for (const group of Object.values(groups as Record<string, Record<string, number>>))
          delete group['rewards/accuracies'];
      });
      writeFileSync(join(folder, 'config.yaml'), 'objective:\n  loss: sft\n');
    }
    const html = await read();
    expectSoundPage(html);
    expect(tableOf(html, 'Final test, mean ± standard error over seeds')[1][6]).toBe('–');
    expect(tableOf(html, 'Reward accuracy of each group, mean ± standard error over seeds')[0]).not.toContain('SFT');
  });

  it('refuses two runs of one method and seed', async () => {
    const copy = `${folders[0]}-again`;
    cpSync(folders[0], copy, { recursive: true });
    folders.push(copy);
    await expect(read()).rejects.toThrow(/ipo-0-again, field "seed": has the method and seed of .*ipo-0\b/);
  });
});

describe('readRun', () => {
  const metrics = (folder: string) => join(folder, 'metrics.jsonl');

  it.each<[string, (folder: string) => void, RegExp]>([
    ['no such folder', (folder) => rmSync(folder, { recursive: true }), /run\.json: cannot be read\n {2}fix: /],
    ['no evaluation', (folder) => rmSync(join(folder, 'evaluation.json')), /evaluation\.json: cannot be read/],
    ['no metrics', (folder) => rmSync(metrics(folder)), /metrics\.jsonl: no such file/],
    ['broken JSON', (folder) => writeFileSync(join(folder, 'run.json'), '{"seed": 1,'), /run\.json: is not JSON/],
    [
      'a missing seed',
      (folder) => writeFileSync(join(folder, 'run.json'), '{"method": "ipo"}'),
      /run\.json, field "seed": /,
    ],
    ['a cut line', (folder) => appendFileSync(metrics(folder), '{"step": 31, "lo'), /metrics\.jsonl:32: is not JSON/],
    [
      'a line without step',
      (folder) => appendFileSync(metrics(folder), '{"loss": 1}\n'),
      /metrics\.jsonl:32, field "step": /,
    ],
    [
      'a metric that is no number',
      (folder) => appendFileSync(metrics(folder), '{"step": 31, "loss": [1]}\n'),
      /metrics\.jsonl:32, field "loss": /,
    ],
    [
      'a group without loss',
      (folder) => writeFileSync(join(folder, 'evaluation.json'), '{"groups": {"a": {"count": 3}}}'),
      /evaluation\.json, field "groups\.a\.loss": /,
    ],
    [
      'no groups',
      (folder) => writeFileSync(join(folder, 'evaluation.json'), '{"groups": {}}'),
      /evaluation\.json, field "groups": /,
    ],
    ['broken YAML', (folder) => writeFileSync(join(folder, 'config.yaml'), 'a: 1\nb: [1\n'), /config\.yaml:\d+: /],
    [
      'a configuration without objective',
      (folder) => writeFileSync(join(folder, 'config.yaml'), 'seed: 1\n'),
      /config\.yaml, field "objective": /,
    ],
  ])('names file, line and field: %s', async (_, damage, message) => {
    damage(folders[0]);
    const error = await readRun(folders[0]).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(InputError);
    expect((error as InputError).message).toMatch(message);
  });
});

describe('group-robust report', () => {
  let stdout: string;
  let stderr: string;
  beforeEach(() => {
    stdout = '';
    stderr = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      stdout += text;
      return true;
    });
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      stderr += text;
      return true;
    });
  });
  afterEach(() => {
    vi.restoreAllMocks();
    process.exitCode = undefined;
  });
  const report = (...args: string[]) => {
    const program = new Command();
    registerReport(program);
    return program.parseAsync(['report', ...args], { from: 'user' });
  };

  it('writes into the first run folder and prints one JSON object', async () => {
    await report(...folders, '--json');
    const path = join(folders[0], 'report.html');
    expect(JSON.parse(stdout)).toEqual({ report: path, runs: 6 });
    expectSoundPage(readFileSync(path, 'utf8'));
    expect(process.exitCode).toBeUndefined();
  });

  it('writes where --out says', async () => {
    const path = join(dirname(folders[0]), 'new', 'page.html');
    await report(folders[0], '--out', path);
    expect(existsSync(path)).toBe(true);
    expect(existsSync(join(folders[0], 'report.html'))).toBe(false);
    expect(stdout).toBe(`${path}: 1 run\n`);
  });

  it('exits with 2 and writes nothing when a run is broken', async () => {
    rmSync(join(folders[4], 'evaluation.json'));
    await report(...folders);
    expect(process.exitCode).toBe(2);
    expect(stderr).toContain(join(folders[4], 'evaluation.json'));
    expect(existsSync(join(folders[0], 'report.html'))).toBe(false);
  });
});
