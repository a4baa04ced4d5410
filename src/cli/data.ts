import type { Command } from 'commander';
import type { OpinionSummary } from '../data/global-opinions.js';
import { shortName } from '../names.js';
import { defineAction, type Output, parseList, parseNumber } from './command.js';

/** `group-robust data global-opinions` and `group-robust data survey`: from a survey to preference pairs. */
export function registerData(program: Command): void {
  const data = program.command('data').description('make preference pairs of survey data');

  defineAction<{ file: string; groups: string; seed: string; multiPair?: boolean; skipBadRows?: boolean; out: string }>(
    data
      .command('global-opinions')
      .description('pairs of GlobalOpinionQA: train.jsonl, validation.jsonl, test.jsonl and summary.json')
      .requiredOption(
        '--file <file>',
        'CSV, JSONL or Parquet of question, selections, options, or the hub id Anthropic/llm_global_opinions',
      )
      .requiredOption(
        '--groups <names>',
        'countries as in the file, separated by commas; quote a name with a comma: \'"A, B",C\'',
      )
      .option('--seed <n>', 'decides the split and which answers lose', '42')
      .option('--multi-pair', 'up to four pairs a question, from the ranking of its answers')
      .option('--skip-bad-rows', 'leave out rows that cannot be read, instead of stopping')
      .requiredOption('--out <dir>', 'folder to make'),
    async (options, output) => {
      const { opinionPairs, readSurvey, writeOpinionPairs } = await import('../data/global-opinions.js');
      const { refuseExisting, writeFolderWhole } = await import('../files.js');
      const seed = parseSeed(options.seed);
      const groups = parseList('--groups', options.groups);
      refuseExisting(options.out);
      const { multiPair, skipBadRows } = options;
      const { localCsv } = await import('../hub/local.js');
      const file = await localCsv(options.file);
      const made = opinionPairs(await readSurvey(file.path), { groups, seed, multiPair, skipBadRows });
      await writeFolderWhole(options.out, (folder) => writeOpinionPairs(folder, made));
      await logSummary(output, made.summary, options.out);
      return { out: options.out, ...made.summary };
    },
  );

  defineAction<{ seed: string; rows: string; out: string }>(
    data
      .command('survey')
      .description('an invented survey of five countries with known truth: survey.csv, truth.json, and pairs as above')
      .option('--seed <n>', 'decides everything', '0')
      .option('--rows <n>', '(question, country) pairs in all, 100 to 19200', '3200')
      .requiredOption('--out <dir>', 'folder to make'),
    async (options, output) => {
      const { SURVEY_ROWS, writeSurvey } = await import('../data/survey.js');
      const { writeFolderWhole } = await import('../files.js');
      const seed = parseSeed(options.seed);
      const rows = parseNumber('--rows', options.rows, { ...SURVEY_ROWS, integer: true });
      const summary = await writeFolderWhole(options.out, (folder) => writeSurvey(folder, { seed, rows }));
      await logSummary(output, summary, options.out);
      return { out: options.out, ...summary };
    },
  );
}

function parseSeed(text: string): number {
  return parseNumber('--seed', text, { min: 0, max: Number.MAX_SAFE_INTEGER, integer: true });
}

async function logSummary(output: Output, summary: OpinionSummary, out: string): Promise<void> {
  const { badRowText } = await import('../data/global-opinions.js');
  const { totals, badRows } = summary;
  for (const [name, { rows, filtered, duplicates, pairs }] of Object.entries(summary.groups)) {
    const reasons = Object.entries(filtered).filter(([, count]) => count > 0);
    output.log(
      `${shortName(name)}: ${rows} rows` +
        reasons.map(([reason, count]) => `, ${count} filtered (${reason})`).join('') +
        (duplicates > 0 ? `, ${duplicates} repeated` : '') +
        ` -> ${pairs.train} train, ${pairs.validation} validation, ${pairs.test} test pairs`,
    );
  }
  for (const row of badRows) output.log(`left out ${badRowText(row)}`);
  for (const warning of summary.warnings) output.log(`warning: ${warning}`);
  output.log(
    `${totals.rows} rows, ${totals.filtered} filtered, ${totals.duplicates} repeated, ${badRows.length} bad -> ${out} (seed ${summary.seed})`,
  );
}
