import { present } from '../errors.js';
import { shortName } from '../terminal/names.js';
import { textTable } from '../terminal/text-table.js';
import type { OpinionSummary, SurveySummary } from '../train/survey.js';

/** How near policy, reference and the uniform distribution are to the answers of each group, and how calibrated, for a terminal. */
export function surveyTable(split: string, { policy, reference, uniform }: SurveySummary): string {
  const all = Object.entries({ policy, reference, uniform }).flatMap(([name, summary]) =>
    summary === undefined ? [] : [{ name, summary }],
  );
  // The win shares that the uniform distribution predicts are all ½.
  const judged = all.filter(({ summary }) => summary !== uniform);
  const fixed = (value: number | undefined) => (value === undefined ? '–' : value.toFixed(4));
  const similarity = ({ similarity, standard_error }: OpinionSummary['groups'][string]) =>
    `${fixed(similarity)}${standard_error === undefined ? '' : ` ± ${fixed(standard_error)}`}`;
  const blank = judged.map(() => '');
  const groups = textTable(
    [
      split,
      'questions',
      ...all.map(({ name }) => `${name} similarity`),
      ...judged.map(({ name }) => `${name} calibration error`),
    ],
    [
      ...Object.entries(policy.groups).map(([group, { questions }]) => [
        shortName(group),
        String(questions),
        ...all.map(({ summary }) => similarity(present(summary.groups[group]))),
        ...judged.map(({ summary }) => fixed(summary.groups[group]?.calibration_error)),
      ]),
      [
        'worst group',
        '',
        ...all.map(({ summary: { worst } }) => `${fixed(worst.similarity)} (${shortName(worst.group)})`),
        ...blank,
      ],
      [
        'mean over questions',
        '',
        ...all.map(({ summary }) => fixed(summary.mean.similarity)),
        ...judged.map(({ summary }) => fixed(summary.mean.calibration_error)),
      ],
      ['mean over groups', '', ...all.map(({ summary }) => fixed(summary.group_mean.similarity)), ...blank],
    ],
  );
  const calibration = textTable(
    ['win share by the policy', 'pairs of options', 'predicted', 'observed'],
    policy.mean.calibration.map(({ from, to, count, predicted, observed }) => [
      `${from.toFixed(2)}–${to.toFixed(2)}`,
      String(count),
      fixed(predicted),
      fixed(observed),
    ]),
  );
  const known = Object.values(policy.groups).some((group) => group.standard_error !== undefined);
  return [
    groups,
    `(similarity: 1 − JSD in bits between the distributions over all options${known ? ', ± one standard error over the questions of the group' : ''})`,
    '',
    calibration,
  ].join('\n');
}
