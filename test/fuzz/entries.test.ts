import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Random } from '../../src/numbers/random.js';
import { GemmaPolicy } from '../../src/policy/gemma.js';
import { SafetensorsFile } from '../../src/policy/safetensors.js';
import { temporaryFolder } from '../temporary-folder.js';

/**
 * The addon on entries of a safetensors file that TypeScript would never give it: each is read or refused; a crash of the
 * process, or an error of another kind, fails.
 */
const inputs = 10_000;
const timeout = 600_000;

const folder = temporaryFolder();

it('entries of safetensors that nobody has checked', { timeout }, async () => {
  using policy = await GemmaPolicy.open('random:tiny?layers=1&hidden=8&heads=1&head=8&mlp=8&vocab=16', { threads: 1 });
  await policy.addAdapter({ rank: 1, alpha: 1 });
  const path = join(folder, 'unchecked');
  await policy.native.saveAdapter(path, 'model.');
  using file = new SafetensorsFile(path);
  const { descriptor, entries } = file;
  await policy.native.loadAdapter(file, 'model.');
  // Also those whose bytes lie in the file and are not the tensor's: unaligned, or another's.
  const odd = [NaN, Infinity, -1, 0.5, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 1e300, '8', null, undefined, [], {}];
  const outcomes = { read: 0, refused: 0 };
  for (let i = 0; i < inputs; i++) {
    const random = Random.stream(0, 'fuzz', 'entries', i);
    const pick = <T>(list: readonly T[]): T => list[random.integer(list.length)];
    const changed: Record<string, unknown>[] = entries.map((entry) => structuredClone({ ...entry }));
    const one = pick(changed);
    const other = pick(changed);
    const near = (place: unknown) => (place as number) + random.integer(17) - 8;
    const any = () => (random.integer(2) === 0 ? pick(odd) : Math.floor(random.uniform() * 2 ** random.integer(54)));
    const changes: (() => void)[] = [
      () => Object.assign(one, { begin: near(one.begin), end: near(one.end) }),
      () => Object.assign(one, { begin: (one.begin as number) - 3, end: (one.end as number) - 3 }),
      () => Object.assign(one, { [pick(['begin', 'end'])]: any() }),
      () => Object.assign(one, { shape: Array.from({ length: random.integer(5) }, any) }),
      () => Array.isArray(one.shape) && one.shape.splice(random.integer(3), random.integer(2), any()),
      () => Object.assign(one, { shape: any() }),
      () => Object.assign(one, { dtype: pick(['F64', 'F16', 'BF16', 'I64', '', 'F32\0', null]) }),
      () => Object.assign(one, { name: pick([other.name, '', 3, '\ud800', '"\n']) }),
      () => Object.assign(one, { begin: other.begin, end: other.end, shape: other.shape }),
      () => delete one[pick(Object.keys(one))],
      () => changed.splice(random.integer(entries.length), 1),
      () => changed.push(pick<unknown>([other, one, null, 3, []]) as Record<string, unknown>),
    ];
    for (let left = 1 + random.integer(3); left > 0; left--) pick(changes)();
    try {
      const unchecked = { path, descriptor, entries: changed as unknown as typeof entries };
      await policy.native.loadAdapter(unchecked, 'model.');
      outcomes.read++;
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'NATIVE_INPUT') throw new Error(`input ${i}`, { cause: error });
      outcomes.refused++;
    }
  }
  console.info('entries', outcomes);
  expect(outcomes.refused).toBeGreaterThan(inputs / 10);
  expect(outcomes.read).toBeGreaterThan(inputs / 50);
  await policy.native.loadAdapter(file, 'model.');
});
