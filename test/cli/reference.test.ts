import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

/** What a run trained against is recorded beside its adapter, and taken by `eval` and `logprobs`. */
const model = resolve('test/fixtures/gemma-tiny');
const folder = temporaryFolder();
const at = (...names: string[]) => join(folder, ...names);

const golden = JSON.parse(readFileSync(join(model, 'golden.json'), 'utf8')) as {
  pairs: { group: number; prompt: number[]; chosen: number[]; rejected: number[] }[];
};
const pairs = at('pairs.jsonl');
const rows = golden.pairs.map(({ group, prompt, chosen, rejected }) => ({
  group: `g${group}`,
  prompt_ids: prompt,
  chosen_ids: chosen,
  rejected_ids: rejected,
}));
writeFileSync(pairs, rows.map((row) => JSON.stringify(row)).join('\n'));
cpSync(join(model, 'adapter'), at('work', 'sft', 'adapter'), { recursive: true });

const train = (output: string, config: object) => {
  writeFileSync(
    at('config.yaml'),
    stringify({
      model,
      output,
      data: { train: pairs, test: pairs },
      objective: { loss: 'ipo', beta: 0.1 },
      optimizer: { learningRate: 0.005 },
      steps: 3,
      ...config,
    }),
  );
  const { status, stderr } = groupRobust(['train', at('config.yaml'), '--quiet']);
  expect(status, stderr).toBe(0);
};
const record = (run: string) => JSON.parse(readFileSync(join(run, 'adapter', 'group_robust.json'), 'utf8'));
const evaluate = (adapter: string, ...more: string[]) =>
  groupRobust([
    'eval',
    '--model',
    model,
    '--pairs',
    pairs,
    '--adapter',
    adapter,
    '--objective',
    'ipo,beta=0.1',
    '--json',
    ...more,
  ]);
const unknown = /warning: nothing in .* says what the adapter was trained against.*--reference-adapter/;

beforeAll(() => {
  train(at('work', 'ipo'), { adapter: at('work', 'sft', 'adapter') });
  train(at('base'), {
    objective: {
      loss: 'dpo',
      beta: 0.5,
      labelSmoothing: 0.1,
      reduction: 'mean',
      tilt: 1,
      weights: 'mirror-ascent',
      step: 0.1,
    },
  });
  train(at('sft'), { objective: { loss: 'sft' } });
});

it('is recorded by a path from the adapter, and by its digest; or as the base model, or none', () => {
  const ipo = record(at('work', 'ipo'));
  expect(ipo).toEqual({
    method: 'ipo',
    objective: { loss: 'ipo', beta: 0.1, reduction: 'sum' },
    reference: { adapter: '../../sft/adapter', sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
  });
  const smoothed = { loss: 'dpo', beta: 0.5, labelSmoothing: 0.1, reduction: 'mean' };
  expect(record(at('base'))).toEqual({ method: 'gr-dpo', objective: smoothed, reference: 'base' });
  expect(record(at('sft'))).toEqual({
    method: 'sft',
    objective: { loss: 'sft', reduction: 'sum' },
    reference: 'none',
  });
});

describe('eval', () => {
  const ofRun = () => JSON.parse(readFileSync(at('work', 'ipo', 'evaluation.json'), 'utf8'));

  it('takes it, says so, and has the numbers of the run', () => {
    const { json, stderr } = evaluate(at('work', 'ipo', 'adapter'));
    expect(json.groups).toEqual(ofRun().groups);
    expect(json.reference).toBe(at('work', 'sft', 'adapter'));
    expect(stderr).toMatch(/reference: .*sft\/adapter, against which the adapter was trained/);
    expect(stderr).not.toContain('warning');
  });

  it('finds it where both have been moved, and through a link', () => {
    renameSync(at('work'), at('moved'));
    expect(evaluate(at('moved', 'ipo', 'adapter')).json.groups.g0.count).toBeGreaterThan(0);
    renameSync(at('moved'), at('work'));
  });

  it('refuses one that is gone, or another by now, and names the way out', () => {
    const reference = at('work', 'sft', 'adapter');
    renameSync(reference, at('away'));
    const gone = evaluate(at('work', 'ipo', 'adapter'));
    expect(gone.stderr).toMatch(/there is no adapter at .*sft\/adapter.*\n {2}fix: .*--reference-adapter/);
    expect(gone.status).toBe(2);
    const named = evaluate(at('work', 'ipo', 'adapter'), '--reference-adapter', at('away'));
    expect(named.stderr).not.toContain('warning');
    expect(named.json.groups).toEqual(ofRun().groups);
    cpSync(at('base', 'adapter'), reference, { recursive: true });
    const other = evaluate(at('work', 'ipo', 'adapter'));
    expect(other.stderr).toMatch(/is no longer the adapter against which this one was trained\n {2}fix: /);
    expect(other.status).toBe(2);
    rmSync(reference, { recursive: true });
    renameSync(at('away'), reference);
  });

  it('warns where another is named than it was trained against', () => {
    const other = evaluate(at('work', 'ipo', 'adapter'), '--reference-adapter', at('base', 'adapter'));
    expect(other.stderr).toMatch(
      /warning: .*base\/adapter is not what the adapter was trained against, which is \.\.\/\.\.\/sft/,
    );
    const base = evaluate(at('work', 'ipo', 'adapter'), '--reference-adapter', 'base');
    expect(base.stderr).toContain('warning: the adapter was trained against ../../sft/adapter');
    // What used to be reported in silence.
    expect(base.json.mean.loss).not.toBeCloseTo(ofRun().mean.loss, 1);
  });

  it('warns where nothing is recorded, unless the reference is named; not where none is used', () => {
    mkdirSync(at('foreign'));
    cpSync(at('base', 'adapter'), at('foreign'), { recursive: true });
    rmSync(at('foreign', 'group_robust.json'));
    expect(evaluate(at('foreign')).stderr).toMatch(unknown);
    expect(evaluate(at('foreign'), '--reference-adapter', 'base').stderr).not.toContain('warning');
    expect(evaluate(at('foreign'), '--objective', 'sft').stderr).not.toContain('warning');
    for (const run of ['base', 'sft']) expect(evaluate(at(run, 'adapter')).stderr).not.toContain('warning');
  });

  it('names the field of a record that is broken', () => {
    writeFileSync(at('foreign', 'group_robust.json'), '{"method": "ipo", "reference": {"adapter": ""}}');
    const { status, stderr } = evaluate(at('foreign'));
    expect(stderr).toContain('group_robust.json');
    expect(status).toBe(2);
  });
});

describe('the objective of eval', () => {
  const evaluate = (adapter: string, ...more: string[]) =>
    groupRobust(['eval', '--model', model, '--pairs', pairs, '--adapter', adapter, '--json', ...more]);

  it.each(['base', 'sft', 'work/ipo'])('is that of the run %s, whose figures it has', (run) => {
    const { json, stderr } = evaluate(at(run, 'adapter'));
    const { objective, groups, mean } = JSON.parse(readFileSync(at(run, 'evaluation.json'), 'utf8'));
    expect(objective).toEqual(record(at(run)).objective);
    expect(json).toMatchObject({ objective, groups, mean });
    expect(stderr).toMatch(
      /\nobjective: (dpo,beta=0\.5,labelSmoothing=0\.1,reduction=mean|sft,reduction=sum|ipo,beta=0\.1,reduction=sum), with which the adapter was trained \(.*group_robust\.json\)\n/,
    );
  });

  it('is the one that is asked for, beside which that of the run is told', () => {
    const { json, stderr } = evaluate(at('base', 'adapter'), '--objective', 'ipo,beta=0.2');
    expect(json.objective).toEqual({ loss: 'ipo', beta: 0.2, reduction: 'sum' });
    expect(stderr).toContain(
      'objective: ipo,beta=0.2,reduction=sum; the adapter was trained with dpo,beta=0.5,labelSmoothing=0.1,reduction=mean\n',
    );
    const same = evaluate(at('work', 'ipo', 'adapter'), '--objective', 'ipo,beta=0.1');
    expect(same.stderr).toContain('objective: ipo,beta=0.1,reduction=sum\n');
  });

  it('is DPO where none is recorded, and says so', () => {
    cpSync(at('base', 'adapter'), at('older'), { recursive: true });
    const { objective: _, ...older } = record(at('base'));
    writeFileSync(at('older', 'group_robust.json'), JSON.stringify(older));
    const { json, stderr } = evaluate(at('older'));
    expect(json.objective).toEqual({ loss: 'dpo', beta: 0.1, reduction: 'sum' });
    expect(stderr).toMatch(
      /objective: dpo,beta=0\.1,reduction=sum, the default; the adapter was trained by gr-dpo, and /,
    );
    rmSync(at('older', 'group_robust.json'));
    expect(evaluate(at('older')).stderr).toMatch(/the default; nothing in .*older says with which loss/);
  });

  it('is refused by file and field where the record has none that could be', () => {
    writeFileSync(
      at('older', 'group_robust.json'),
      JSON.stringify({ ...record(at('base')), objective: { loss: 'dpo' } }),
    );
    const { status, stderr } = evaluate(at('older'));
    expect(stderr).toMatch(/group_robust\.json, field "objective.beta": is needed with loss: dpo/);
    expect(status).toBe(2);
  });
});

it('logprobs has the same reference, and --reference-adapter', () => {
  const logprobs = (...args: string[]) => {
    const { stdout, status, stderr } = groupRobust([
      'logprobs',
      '--model',
      model,
      '--pairs',
      pairs,
      '--out',
      '-',
      ...args,
    ]);
    expect(status, stderr).toBe(0);
    return {
      stderr,
      lines: stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    };
  };
  const sft = logprobs('--adapter', at('work', 'sft', 'adapter'), '--reference-adapter', 'base').lines;
  const ipo = logprobs('--adapter', at('work', 'ipo', 'adapter'));
  const base = logprobs('--adapter', at('work', 'ipo', 'adapter'), '--reference-adapter', 'base').lines;
  const { lines, stderr } = ipo;
  expect(stderr).not.toContain('warning');
  expect(lines.map((line) => line.reference_chosen)).toEqual(sft.map((line) => line.chosen));
  expect(base.map((line) => line.reference_chosen)).toEqual(sft.map((line) => line.reference_chosen));
  expect(base.map((line) => line.chosen)).toEqual(lines.map((line) => line.chosen));
  expect(logprobs('--adapter', at('work', 'sft', 'adapter')).stderr).toMatch(unknown);
});
