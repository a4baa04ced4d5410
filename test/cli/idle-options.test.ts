import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../temporary-folder.js';
import { groupRobust } from './run.js';

/** Options that would change nothing are refused, with the reason. */
const folder = temporaryFolder();
const at = (name: string) => join(folder, name);

const ids = { group: 'a', prompt_ids: [2, 5], chosen_ids: [6, 1], rejected_ids: [7, 1] };
const { group, ...idsAlone } = ids;
writeFileSync(at('ids.jsonl'), JSON.stringify(ids));
writeFileSync(at('no-groups.jsonl'), JSON.stringify(idsAlone));
writeFileSync(at('text.jsonl'), JSON.stringify({ group, prompt: 'why', chosen: 'yes', rejected: 'no' }));
writeFileSync(
  at('config.yaml'),
  `model: random:tiny\noutput: ${at('run')}\ndata: { train: ${at('ids.jsonl')} }\nobjective: { loss: dpo, beta: 1 }\nsteps: 1\n`,
);
const tokenizer = resolve('src/data/text/tiny-tokenizer.json');
const scoring = (command: string, pairs: string, ...more: string[]) =>
  groupRobust([command, '--model', 'random:tiny?layers=1', '--pairs', at(pairs), ...more]);

describe('refused', () => {
  it('train --print-config with --resume: no run is gone on with', () => {
    const { status, stdout, stderr } = groupRobust(['train', at('config.yaml'), '--print-config', '--resume']);
    expect(stderr).toContain("'--print-config' cannot be used with option '--resume'");
    expect([status, stdout]).toEqual([2, '']);
  });

  it('train with a key of the configuration as its option: --set is named', () => {
    const { status, stderr } = groupRobust(['train', at('config.yaml'), '--output', at('other')]);
    expect(stderr).toContain('--set output=runs/second');
    expect(status).toBe(2);
  });

  it('a tokenizer for pairs of token ids', () => {
    const trained = groupRobust(['train', at('config.yaml'), '--set', `tokenizer=${tokenizer}`]);
    expect(trained.stderr).toMatch(
      /field "tokenizer": does nothing, since all pairs are token ids\n {2}fix: leave it out/,
    );
    expect(trained.status).toBe(2);
    for (const [command, ...more] of [['eval'], ['logprobs', '--out', '-']]) {
      const scored = scoring(command, 'ids.jsonl', '--tokenizer', tokenizer, ...more);
      expect(scored.stderr).toMatch(/field "--tokenizer": does nothing, since all pairs are token ids/);
      expect(scored.status).toBe(2);
      expect(scoring(command, 'text.jsonl', '--tokenizer', tokenizer, ...more).status).toBe(0);
    }
  });

  it('logprobs --group-by: no group is read', () => {
    const grouped = scoring('logprobs', 'ids.jsonl', '--out', '-', '--group-by', 'group');
    expect(grouped.stderr).toContain('field "--group-by": does nothing without a template');
    expect(grouped.status).toBe(2);
    const [with_, without] = ['ids.jsonl', 'no-groups.jsonl'].map((pairs) =>
      scoring('logprobs', pairs, '--out', at(`${pairs}.scores`)),
    );
    expect([with_.status, without.status]).toEqual([0, 0]);
    expect(readFileSync(at('no-groups.jsonl.scores'), 'utf8')).toBe(readFileSync(at('ids.jsonl.scores'), 'utf8'));
    expect(scoring('eval', 'no-groups.jsonl').status).toBe(2);
  });

  it('a column to group by, given twice', () => {
    const { status, stderr } = scoring('eval', 'ids.jsonl', '--group-by', 'group,group');
    expect(stderr).toMatch(/field "--group-by": holds the same name twice/);
    expect(status).toBe(2);
  });

  it('types of the base weights that hold no more than --dtype', () => {
    const { status, stderr } = scoring('eval', 'ids.jsonl', '--base-dtype', 'float64');
    expect(stderr).toBe('error: field "--base-dtype": must be bfloat16, or --dtype (float32), which is the default\n');
    expect(status).toBe(2);
  });

  it.each([
    ['dpo,beta=0.1,beta=0.2', /field "--objective beta": is given twice/],
    ['dpo,beta=0.1,loss=ipo', /field "--objective loss": is given twice/],
    ['dpo,beta=0.1=0.2', /field "--objective beta": "0\.1=0\.2" is not a number/],
    ['dpo,beta', /field "--objective beta": "" is not a number/],
    ['dpo,beta=0.1,step=0.1', /field "--objective step": does nothing here: .*\n {2}fix: leave it out/],
    ['ipo,beta=0.1,weights=mirror-ascent,step=0.1', /field "--objective weights": does nothing here/],
    ['dpo,beta=0.1,tilt=1', /field "--objective tilt": does nothing here/],
    ['ipo,Beta=0.1', /field "--objective Beta": unknown key\n {2}fix: did you mean beta\?/],
    [
      'ipo,colour=1',
      /"--objective colour": unknown key\n {2}fix: keys in this place: beta, labelSmoothing, gamma, reduction\n/,
    ],
    ['gr-ipo,beta=0.1', /field "--objective loss": .*\n {2}fix: write ipo: group weights/],
    ['ipo', /field "--objective beta": is needed with loss: ipo/],
    ['ipo,beta=0.1,labelSmoothing=0.1', /field "--objective labelSmoothing": does nothing with loss: ipo/],
    ['sft,beta=0.1', /field "--objective beta": does nothing with loss: sft/],
  ])('eval --objective %s', (objective, message) => {
    const { status, stderr } = scoring('eval', 'ids.jsonl', '--objective', objective);
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
  });
});
