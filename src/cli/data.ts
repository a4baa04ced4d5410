import type { Command } from 'commander';
import type { OpinionSummary } from '../data/surveys/global-opinions.js';
import { counted } from '../terminal/format.js';
import { shortName } from '../terminal/names.js';
import { defineAction, type Output, parseList, parseNumber } from './command.js';
import { checkOut, type OutFlags, requireOut } from './out.js';

/** `group-robust data global-opinions` and `group-robust data survey`: from a survey to preference pairs. */
export function registerData(program: Command): void {
  const data = program.command('data').description('make preference pairs of survey data');

  defineAction<OpinionFlags>(
    withFolder(
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
        .option('--skip-bad-rows', 'leave out rows that cannot be read, instead of stopping'),
    ),
    async (options, output) => {
      const { opinionPairs, readSurvey, writeOpinionPairs } = await import('../data/surveys/global-opinions.js');
      const { writeFolderWhole } = await import('../files/write.js');
      const seed = parseSeed(options.seed);
      const groups = parseList('--groups', options.groups);
      const out = checkOut(options, { inputs: [options.file], folder: madeOfSurvey });
      const { multiPair, skipBadRows } = options;
      const { localCsv } = await import('../hub/local.js');
      const file = await localCsv(options.file);
      const made = opinionPairs(await readSurvey(file.path), { groups, seed, multiPair, skipBadRows });
      await writeFolderWhole(out.path, (folder) => writeOpinionPairs(folder, made), out);
      await logSummary(output, made.summary, options.out);
      return { out: options.out, ...made.summary };
    },
  );

  defineAction<FolderFlags & { seed: string; rows: string }>(
    withFolder(
      data
        .command('survey')
        .description(
          'an invented survey of five countries with known truth: survey.csv, truth.json, and pairs as above',
        )
        .option('--seed <n>', 'decides everything', '0')
        .option('--rows <n>', '(question, country) pairs in all, 100 to 19200', '3200'),
    ),
    async (options, output) => {
      const { SURVEY_ROWS, writeSurvey } = await import('../data/surveys/invented-survey.js');
      const { writeFolderWhole } = await import('../files/write.js');
      const seed = parseSeed(options.seed);
      const rows = parseNumber('--rows', options.rows, { ...SURVEY_ROWS, integer: true });
      const out = checkOut(options, { folder: madeOfSurvey });
      const summary = await writeFolderWhole(out.path, (folder) => writeSurvey(folder, { seed, rows }), out);
      await logSummary(output, summary, options.out);
      return { out: options.out, ...summary };
    },
  );
}

/** What both commands write. */
const madeOfSurvey = /^((train|validation|test)\.jsonl|(summary|truth)\.json|survey\.csv)$/;

type FolderFlags = OutFlags & { out: string };

interface OpinionFlags extends FolderFlags {
  file: string;
  groups: string;
  seed: string;
  multiPair?: boolean;
  skipBadRows?: boolean;
}

function withFolder(command: Command): Command {
  return requireOut(command, '--out <dir>', 'folder to make');
}

function parseSeed(text: string): number {
  return parseNumber('--seed', text, { min: 0, max: Number.MAX_SAFE_INTEGER, integer: true });
}

async function logSummary(output: Output, summary: OpinionSummary, out: string): Promise<void> {
  const { badRowText } = await import('../data/surveys/global-opinions.js');
  const { totals, badRows } = summary;
  for (const [name, { rows, filtered, duplicates, pairs }] of Object.entries(summary.groups)) {
    const reasons = Object.entries(filtered).filter(([, count]) => count > 0);
    output.log(
      `${shortName(name)}: ${counted(rows, 'row')}` +
        reasons.map(([reason, count]) => `, ${count} filtered (${reason})`).join('') +
        (duplicates > 0 ? `, ${duplicates} repeated` : '') +
        ` -> ${pairs.train} train, ${pairs.validation} validation, ${pairs.test} test pairs`,
    );
  }
  for (const row of badRows) output.log(`left out ${badRowText(row)}`);
  for (const warning of summary.warnings) output.log(`warning: ${warning}`);
  output.log(
    `${counted(totals.rows, 'row')}, ${totals.filtered} filtered, ${totals.duplicates} repeated, ${badRows.length} bad -> ${out} (seed ${summary.seed})`,
  );
}
