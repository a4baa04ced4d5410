import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { describe, expect, it, vi } from 'vitest';
import { registerConverge } from '../../src/cli/converge.js';
import { reportError } from '../../src/errors.js';
import { temporaryFolder } from '../temporary-folder.js';

const folder = temporaryFolder();

/** Runs the command in this process. */
async function converge(...flags: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  let stdout = '';
  let stderr = '';
  const spies = [
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      stdout += text;
      return true;
    }),
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      stderr += text;
      return true;
    }),
  ];
  const program = new Command('group-robust');
  registerConverge(program);
  try {
    await program.parseAsync(['converge', ...flags], { from: 'user' }).catch(reportError);
    return { code: Number(process.exitCode ?? 0), stdout, stderr };
  } finally {
    process.exitCode = undefined;
    for (const spy of spies) spy.mockRestore();
  }
}

function file(name: string, contents: unknown): string {
  const path = join(folder, name);
  writeFileSync(path, typeof contents === 'string' ? contents : JSON.stringify(contents));
  return path;
}

const scalar = { loss: 'ipo', beta: 0.5, radius: null, groups: [{ differences: [[1]] }, { differences: [[2]] }] };

describe('converge', () => {
  it('reports constants, certificate, horizons, rate and verdict, and writes them', async () => {
    const out = join(folder, 'run');
    const flags = [
      '--loss',
      'dpo',
      '--responses',
      'even',
      '--data',
      'balanced',
      '--horizons',
      '3e4,1e5',
      '--runs',
      '4',
    ];
    const { code, stdout, stderr } = await converge(
      ...flags,
      '--radius',
      '3',
      '--algorithm',
      '3',
      '--order',
      'simultaneous',
      '--out',
      out,
      '--json',
    );
    const report = JSON.parse(stdout);
    expect(report.constants).toMatchObject({ B_theta: 3, rho: 2, groups: 2, pairs: 300 });
    expect(report.minimax.theta).toHaveLength(4);
    expect(report.minimax.upper - report.minimax.lower).toBeLessThanOrEqual(1e-10);
    expect(report.horizons.map((horizon: { T: number }) => horizon.T)).toEqual([3e4, 1e5]);
    for (const horizon of report.horizons) {
      expect(horizon.error).toBeLessThan(horizon.bound);
      expect(horizon.error_interval).toHaveLength(2);
      expect(horizon.duality_gap).toBeGreaterThanOrEqual(horizon.error);
      expect(horizon.duality_gap_interval[0]).toBeLessThanOrEqual(horizon.duality_gap);
      expect(horizon.duality_gap_interval[1]).toBeGreaterThanOrEqual(horizon.duality_gap);
    }
    expect(report.rate.interval[1]).toBeLessThanOrEqual(-0.4);
    expect(report).toMatchObject({ order: 'simultaneous', outcome: 'holds', holds: true, reasons: [] });
    expect(report.alternating).toBeUndefined();
    expect(code).toBe(0);
    expect(report.premises.step_rates.theta).toBeCloseTo(-0.5, 2);
    expect(stderr).toContain('✓ holds: Proposition E.2 (Algorithm 3), of the simultaneous order');
    expect(JSON.parse(readFileSync(join(out, 'convergence.json'), 'utf8'))).toEqual(report);
    expect(readFileSync(join(out, 'convergence.csv'), 'utf8').trim().split('\n')).toHaveLength(3);
  });

  it('takes any number of groups and features', async () => {
    const flags = ['--loss', 'ipo', '--groups', '3', '--dimension', '6', '--horizons', '1e3,1e4', '--runs', '2'];
    const report = JSON.parse((await converge(...flags, '--json')).stdout);
    expect(report.constants).toMatchObject({ rho: 6, groups: 3, pairs: 300 });
    expect(report.minimax.theta).toHaveLength(6);
    expect(report.minimax.alpha).toHaveLength(3);
    expect(report.horizons[1].error).toBeLessThan(report.horizons[0].error);
    expect(report.alternating.horizons).toHaveLength(2);
  });

  it('measures with smoothed labels', async () => {
    const flags = ['--loss', 'dpo', '--horizons', '100', '--runs', '2', '--json'];
    const plain = JSON.parse((await converge(...flags)).stdout);
    const smoothed = JSON.parse((await converge(...flags, '--label-smoothing', '0.2')).stdout);
    expect(smoothed.constants.B_grad).toBeCloseTo(0.8 * plain.constants.B_grad, 12);
    expect(smoothed.minimax.value).toBeGreaterThan(plain.minimax.value);
    expect(smoothed.premises.replay_distance).toBeLessThan(1e-12);
  });

  it('measures with another beta, and with other data and draws', async () => {
    const flags = ['--loss', 'dpo', '--horizons', '100', '--runs', '2', '--order', 'simultaneous', '--json'];
    const constants = async (...more: string[]) => JSON.parse((await converge(...flags, ...more)).stdout).constants;
    const plain = await constants();
    const other = await constants('--beta', '0.5', '--seed', '7');
    expect(plain.B_grad).toBeCloseTo(plain.B_phi, 12);
    expect(other.B_grad).toBeCloseTo(other.B_phi / 2, 12);
    expect(other.B_phi).not.toBe(plain.B_phi);
  });

  it('says in title, JSON and tables of which loss, beta and seed the numbers are', async () => {
    const flags = [
      '--loss',
      'dpo',
      '--beta',
      '0.5',
      '--label-smoothing',
      '0.1',
      '--seed',
      '7',
      '--horizons',
      '100',
      '--runs',
      '2',
    ];
    for (const [name, ...more] of [
      ['convergence', '--order', 'simultaneous'],
      ['comparison', '--algorithm', 'exp3'],
    ]) {
      const out = join(folder, `stated-${name}`);
      const { stdout } = await converge(...flags, ...more, '--quiet', '--out', out);
      expect(stdout).toContain('dpo with labelSmoothing 0.1, beta 0.5, seed 7, swapped features');
      const stated = { loss: { loss: 'dpo', beta: 0.5, labelSmoothing: 0.1 }, seed: 7 };
      expect(JSON.parse(readFileSync(join(out, `${name}.json`), 'utf8'))).toMatchObject(stated);
      const [heading, line] = readFileSync(join(out, `${name}.csv`), 'utf8')
        .trim()
        .split('\n');
      expect(heading).toMatch(/,loss,beta,label_smoothing,seed$/);
      expect(line).toMatch(/,dpo,0\.5,0\.1,7$/);
    }
  });

  it('measures the hinge loss and rdpo, whose constants and certificates are their own', async () => {
    const flags = ['--horizons', '1e3,1e4', '--runs', '2', '--radius', '2', '--order', 'simultaneous', '--json'];
    for (const loss of [['hinge'], ['rdpo', '--label-smoothing', '0.1']]) {
      const { minimax, horizons, constants } = JSON.parse((await converge('--loss', ...loss, ...flags)).stdout);
      expect(minimax.upper - minimax.lower).toBeLessThanOrEqual(1e-10);
      expect(constants.B_grad).toBeCloseTo(constants.B_phi * (loss.length > 1 ? 0.9 / 0.8 : 1), 12);
      for (const { error, duality_gap, bound } of horizons) {
        expect(error).toBeGreaterThan(0);
        expect(duality_gap).toBeGreaterThanOrEqual(error - 1e-10);
        expect(error).toBeLessThan(bound);
      }
    }
  });

  it('exits 0 and says that it is unclear when the horizons are all before burn-in', async () => {
    const { code, stdout } = await converge('--loss', 'ipo', '--horizons', '100,300', '--runs', '2');
    expect(code).toBe(0);
    expect(stdout).toMatch(/≈ unclear: Proposition 4\.1.*only 0 of the 2 horizons are past burn-in/);
    expect(stdout).toMatch(/≈ unclear: The alternating order/);
    const other = await converge('--loss', 'ipo', '--algorithm', '3', '--horizons', '100', '--runs', '2');
    expect(other.stdout).toMatch(/: Proposition E\.2 \(Algorithm 3\), of the simultaneous order/);
    expect(other.stdout).not.toContain('Proposition 4.1');
  });

  it('compares algorithms at equal numbers of samples, and writes table, numbers and figures', async () => {
    const out = join(folder, 'compared');
    const flags = ['--loss', 'ipo', '--algorithm', 'all', '--horizons', '100,401', '--runs', '2', '--radius', '3'];
    const { code, stdout, stderr } = await converge(...flags, '--quiet', '--out', out, '--json');
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report.algorithms.map(({ algorithm }: { algorithm: unknown }) => algorithm)).toEqual([
      1,
      3,
      'every-group',
      'optimistic',
      'exp3',
    ]);
    expect(report.constants.B_theta).toBe(3);
    expect(report.algorithms[2].horizons[1]).toMatchObject({ samples: 401, steps: 200 });
    for (const { horizons, outcome } of report.algorithms) {
      expect(outcome).toBe('holds');
      for (const one of horizons) {
        expect(one.duality_gap).toBeGreaterThanOrEqual(one.error);
        for (const name of ['error', 'duality_gap', 'last_error']) {
          expect(one[`${name}_interval`][0]).toBeLessThanOrEqual(one[name]);
          expect(one[`${name}_interval`][1]).toBeGreaterThanOrEqual(one[name]);
        }
      }
    }
    expect(stderr).toMatch(/^4\.01e2 +Every group +2e2 /m);
    expect(stderr).toContain('No rate where fewer than two horizons count: give more samples to --horizons.\n');
    expect(stderr).toContain('✓ holds: EXP3: no error is below 0 or above the duality gap of its run\n');
    expect(readdirSync(out).sort()).toEqual([
      'comparison.csv',
      'comparison.json',
      'duality-gap.svg',
      'error.svg',
      'last-error.svg',
    ]);
    expect(JSON.parse(readFileSync(join(out, 'comparison.json'), 'utf8'))).toEqual(report);
    // What it has written it may write over.
    expect((await converge(...flags, '--quiet', '--out', out, '--force')).code).toBe(0);
    const [heading, ...lines] = readFileSync(join(out, 'comparison.csv'), 'utf8').trim().split('\n');
    expect(heading).toMatch(/^samples,algorithm,steps,error,/);
    expect(lines.map((line) => line.split(',').slice(0, 3).join(' '))).toEqual([
      ...['100 1 100', '100 3 100', '100 every-group 50', '100 optimistic 100', '100 exp3 100'],
      ...['401 1 401', '401 3 401', '401 every-group 200', '401 optimistic 401', '401 exp3 401'],
    ]);
    expect(readFileSync(join(out, 'duality-gap.svg'), 'utf8')).toMatch(/^<svg[\s\S]*Every group[\s\S]*EXP3/);
  });

  it('refuses wrong flags with exit code 2 and leaves nothing behind', async () => {
    const out = join(folder, 'none');
    const wrong: [string[], RegExp][] = [
      [[], /"--loss": is missing/],
      [['--loss', 'dpo', '--horizons', '1e3,x'], /"--horizons": "x"/],
      [['--loss', 'ipo', '--label-smoothing', '0.1'], /labelSmoothing has no meaning with loss: ipo/],
      [['--loss', 'dpo', '--label-smoothing', '0.5'], /labelSmoothing/],
      [['--loss', 'dpo', '--horizons', '0'], /"--horizons"/],
      [['--loss', 'dpo', '--runs', '1'], /"--runs"/],
      [['--loss', 'dpo', '--groups', '1'], /"--groups"/],
      [['--loss', 'dpo', '--dimension', '3'], /dimension/],
      [['--loss', 'dpo', '--radius', '-1'], /"--radius"/],
      [['--loss', 'dpo', '--algorithm', '2'], /"--algorithm": "2" is not allowed\s+fix: use 1, 3, every-group/],
      [['--loss', 'dpo', '--algorithm', '1,exp3,1'], /"--algorithm": names 1 twice/],
      [['--loss', 'dpo', '--algorithm', 'all,1'], /"--algorithm": all is all of them/],
      [['--loss', 'dpo', '--algorithm', '1,3', '--order', 'alternating'], /"--order": has no meaning in a comparison/],
      [['--loss', 'dpo', '--algorithm', 'every-group', '--horizons', '1'], /1 samples are less than the 2 of one step/],
      [['--loss', 'dpo', '--beta', '0'], /"--beta"/],
      [['--loss', 'dpo', '--seed', '0.5'], /"--seed"/],
      [['--loss', 'dpo', '--ambiguity', '{set: cvar, level: 0.3}'], /"--ambiguity": needs --problem/],
      [['--loss', 'dpo', '--chi', '0.5'], /"--chi": needs --problem/],
      [['--problem', file('p.json', scalar), '--loss', 'dpo'], /"--loss": has no meaning with --problem/],
    ];
    for (const [flags, message] of wrong) {
      const { code, stderr } = await converge(...flags, '--out', out);
      expect(stderr).toMatch(message);
      expect(code).toBe(2);
    }
    expect(existsSync(out)).toBe(false);
    expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([]);
  });
});

describe('converge --problem', () => {
  it('prints the exact value, as a program of its own', async () => {
    const flags = ['src/cli/main.ts', 'converge', '--problem', file('scalar.json', scalar), '--json'];
    const stdout = await new Promise<string>((resolve, reject) =>
      execFile(process.execPath, ['--import', 'tsx', ...flags], (error, out) => (error ? reject(error) : resolve(out))),
    );
    // With or without --json, nothing but the object.
    expect((await converge('--problem', file('scalar.json', scalar))).stdout).toBe(stdout);
    const { value, theta, alpha, lower, upper, ...rest } = JSON.parse(stdout);
    expect(rest).toEqual({});
    expect(value).toBeCloseTo(1 / 9, 10);
    expect(theta[0]).toBeCloseTo(2 / 3, 9);
    expect(alpha[0]).toBeCloseTo(2 / 3, 9);
    expect(upper - lower).toBeLessThanOrEqual(1e-10);
  });

  it('takes the smoothing of the labels into account', async () => {
    const path = file('smoothed.json', {
      loss: 'dpo',
      beta: 1,
      labelSmoothing: 0.25,
      radius: null,
      groups: [{ differences: [[1]] }],
    });
    const { theta } = JSON.parse((await converge('--problem', path, '--json')).stdout);
    expect(theta[0]).toBeCloseTo(Math.log(3), 6);
  });

  it('names the keys of a file that it does not know, and those that it does', async () => {
    const { code, stderr } = await converge('--problem', file('unknown.json', { ...scalar, labelsmoothing: 0.1 }));
    expect(stderr).toMatch(
      /has the unknown key labelsmoothing; known here are loss, beta, labelSmoothing, radius, groups$/m,
    );
    expect(code).toBe(2);
  });

  it('takes the radius and the offsets into account', async () => {
    // One pair, d = 1, o = −1: h = θ + 1, so IPO with c = 2 has its minimum at θ = 1, and at the ball's edge below that.
    const groups = [{ differences: [[1]], offsets: [-1] }];
    const path = file('ball.json', { loss: 'ipo', beta: 0.25, radius: 0.5, groups });
    const { stdout } = await converge('--problem', path, '--json');
    expect(JSON.parse(stdout).value).toBeCloseTo(0.25, 10);
  });

  it('takes what alpha may be, by the keys of a configuration', async () => {
    // α may be in [0.4, 0.6], and the free optimum has 2/3: θ minimises 0.6 (θ − 1)² + 0.4 (2θ − 1)².
    const theta = 1.4 / 2.2;
    const value = 0.6 * (theta - 1) ** 2 + 0.4 * (2 * theta - 1) ** 2;
    const path = file('sets.json', scalar);
    const solved = async (...flags: string[]) => JSON.parse((await converge('--problem', path, ...flags)).stdout).value;
    expect(await solved('--ambiguity', '{set: chi-square, radius: 0.04}')).toBeCloseTo(value, 10);
    expect(await solved('--ambiguity', `{set: cvar, level: ${5 / 6}, shares: uniform}`)).toBeCloseTo(value, 10);
    expect(await solved('--chi', '0.2')).toBeCloseTo(value, 10);
    expect(await solved('--floor', '0.4')).toBeCloseTo(value, 10);
    expect(await solved('--chi', '0', '--mixture', '3,2')).toBeCloseTo(value, 10);
    expect(await solved('--chi', '0.2', '--adjustment', '1')).toBeCloseTo(value + 1, 10);
    const wrong: [string[], RegExp][] = [
      [['--ambiguity', '{set: cvar}'], /"--ambiguity level": is needed with set: cvar/],
      [['--ambiguity', 'cvar'], /"--ambiguity": "cvar" is not a YAML mapping/],
      [['--ambiguity', '{set: kl, radius: 1, shares: [1, 2, 3]}'], /"ambiguity\.shares".*3 entries for 2 groups/],
      [['--mixture', 'pairs'], /"--mixture": does nothing with chi: 1/],
      [['--floor', '0.7'], /"floor"/],
    ];
    for (const [flags, message] of wrong) {
      const { code, stderr } = await converge('--problem', path, ...flags);
      expect(stderr).toMatch(message);
      expect(code).toBe(2);
    }
  });

  it('names file and field of what is wrong, exit code 2', async () => {
    const separable = { ...scalar, loss: 'dpo' };
    const wrong: [string, unknown, RegExp][] = [
      ['absent-key.json', { ...scalar, beta: undefined }, /absent-key\.json, field "beta"/],
      ['extra.json', { ...scalar, gamma: 1 }, /gamma/],
      [
        'smoothing.json',
        { ...scalar, labelSmoothing: 0.1 },
        /smoothing\.json, field "labelSmoothing": labelSmoothing has no meaning with loss: ipo\n {2}fix: remove/,
      ],
      ['sign.json', { ...scalar, radius: -1 }, /field "radius"/],
      ['ragged.json', { ...scalar, groups: [{ differences: [[1], [1, 2]] }] }, /groups\[0\]\.differences\[1\]/],
      ['offsets.json', { ...scalar, groups: [{ differences: [[1]], offsets: [1, 2] }] }, /groups\[0\]\.offsets/],
      ['text.json', { ...scalar, groups: [{ differences: [['a']] }] }, /groups\[0\]\.differences\[0\]\[0\]/],
      ['broken.json', '{"loss": "ipo",', /broken\.json: .*JSON/],
      [
        'huge.json',
        '{"loss":"ipo","beta":1,"radius":null,"groups":[{"differences":[[1e999]]}]}',
        /differences\[0\]\[0\]": must be a number, not Infinity/,
      ],
      [
        'hinge.json',
        { ...scalar, loss: 'hinge' },
        /hinge\.json, field "radius".*loss hinge can be proven on a ball only/,
      ],
      ['separable.json', separable, /separable\.json[\s\S]*not attained[\s\S]*radius/],
    ];
    for (const [name, contents, message] of wrong) {
      const { code, stderr, stdout } = await converge('--problem', file(name, contents));
      expect(stderr).toMatch(message);
      expect(code).toBe(2);
      expect(stdout).toBe('');
    }
    const tiny = await converge('--problem', file('tiny.json', { ...scalar, radius: 1, beta: 1e-300 }));
    expect(tiny.stderr).toMatch(/no finite bounds.*change beta/);
    expect(tiny.code).not.toBe(0);
    expect((await converge('--problem', join(folder, 'nowhere.json'))).stderr).toMatch(/nowhere\.json/);
  });
});
