import { z } from 'zod';
import { InputError, type InputLocation, present } from '../errors.js';
import { fieldName, issueText, readText } from '../files/read.js';
import { keysAt } from '../files/schema-keys.js';
import { parseSeedItems } from '../files/seeds.js';
import { lineOf, parseYaml } from '../files/yaml.js';

/** The file of a sweep: which runs it is made of, and how the setting of each method is chosen. */

/** Validation figures by which a setting can be chosen, under their names in metrics.jsonl, and which way is better. */
export const selections = { 'worst/loss': 'lower', 'worst/accuracy': 'higher' } as const;
export type Selection = keyof typeof selections;

const seed = z.number().int().min(0);
/** Dotted, as in `--set`. */
const key = z.string().regex(/^[A-Za-z]\w*(\.\w+)*$/, 'must be a key of the configuration, such as objective.step');
/** Names of folders too. */
const methodName = z
  .string()
  .regex(/^[A-Za-z0-9][\w.+-]{0,59}$/, 'must be letters, digits and . _ + - (60 at most), as it names a folder too');

const methodSchema = z.strictObject({
  name: methodName.describe('How tables and figures call it; the folder of its runs.'),
  set: z.record(key, z.unknown()).optional().describe('Keys of the configuration, dotted, as in --set.'),
  grid: z
    .record(key, z.array(z.unknown()).nonempty())
    .optional()
    .describe('Keys with lists of values: every combination is a setting, of which validation chooses one.'),
});

export const sweepSchema = z.strictObject({
  base: z
    .string()
    .min(1)
    .optional()
    .describe('Training configuration that all runs share; its seed and output are replaced by those of each run.'),
  bandit: z
    .record(key, z.unknown())
    .optional()
    .describe(
      'Instead of base: options of group-robust bandit that all runs share, such as features: same; keys are its options without dashes (alphaStep), and method.',
    ),
  output: z.string().min(1).describe('Folder of all runs, and of the report at the end.'),
  seeds: z
    .union([z.string(), seed, z.array(seed).nonempty()])
    .describe('Seeds of every setting: a list, or ranges such as 0-2,7.'),
  select: z
    .enum(['worst/loss', 'worst/accuracy'])
    .default('worst/loss')
    .describe(
      'The figure of the worst group on the validation split by which the setting of a method is chosen; losses only compare where their β is the same.',
    ),
  cluster: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Column of the test file, or field of its people, whose values are drawn as wholes in intervals, such as question or user_id; default: every pair by itself.',
    ),
  methods: z
    .array(methodSchema)
    .nonempty()
    .refine(
      (methods) => new Set(methods.map(({ name }) => name.toLowerCase())).size === methods.length,
      'holds the same name twice; rename one',
    )
    .describe('What is compared, each with those before it: begin with the plain ones.'),
});

export type MethodPlan = z.infer<typeof methodSchema>;
export type SweepConfig = Omit<z.infer<typeof sweepSchema>, 'seeds'> & {
  seeds: readonly number[];
  /** Where it was read, and what it says. */
  file: string;
  text: string;
};

/** What a sweep decides by itself. */
const own = ['seed', 'output'];

/** @throws InputError naming file, line and key */
export function loadSweep(file: string): SweepConfig {
  const text = readText(file);
  const parsed = parseYaml(text, { file });
  const at = (path: readonly PropertyKey[]): InputLocation => ({
    file,
    line: lineOf(parsed, path),
    field: fieldName(path) || '(top level)',
  });
  const result = sweepSchema.safeParse(parsed.value ?? {}, { error: issueText });
  if (!result.success) {
    const faults = result.error.issues.map((issue) =>
      issue.code === 'unrecognized_keys'
        ? new InputError('unknown key', {
            at: at([...issue.path, present(issue.keys[0])]),
            fix: `keys in this place: ${keysAt(sweepSchema, issue.path).join(', ')}`,
          })
        : new InputError(issue.message, { at: at(issue.path) }),
    );
    const [fault, ...others] = faults;
    throw present(fault).followedBy(others);
  }
  const sweep = result.data;
  if ((sweep.base === undefined) === (sweep.bandit === undefined))
    throw new InputError('give either base, a training configuration, or bandit, options of the simulation', {
      at: { file },
    });
  for (const [m, { set = {}, grid = {} }] of sweep.methods.entries()) {
    for (const [place, keys] of [
      ['set', Object.keys(set)],
      ['grid', Object.keys(grid)],
    ] as const)
      for (const name of keys)
        if (own.includes(name))
          throw new InputError('is set by the sweep', {
            at: at(['methods', m, place, name]),
            fix: `remove it; the sweep has ${name === 'seed' ? 'seeds' : 'output'} of its own`,
          });
    for (const [name, values] of Object.entries(grid)) {
      if (name in set)
        throw new InputError('stands under set too', {
          at: at(['methods', m, 'grid', name]),
          fix: 'remove one of the two',
        });
      if (new Set(values.map((value) => JSON.stringify(value))).size < values.length)
        throw new InputError('holds the same value twice', { at: at(['methods', m, 'grid', name]), fix: 'remove one' });
    }
  }
  return { ...sweep, seeds: seedsOf(sweep.seeds, at(['seeds'])), file, text };
}

function seedsOf(seeds: z.infer<typeof sweepSchema>['seeds'], at: InputLocation): number[] {
  const items = typeof seeds === 'string' ? seeds.split(',').map((item) => item.trim()) : [seeds].flat().map(String);
  return parseSeedItems(items, at);
}
