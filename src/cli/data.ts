import { join } from 'node:path';
import { type Command, Option, type OptionValues } from '@commander-js/extra-typings';
import { paperTemplate } from '../data/pairs/prompt-template.js';
import type { Fold, OpinionPairing, OpinionSummary } from '../data/surveys/opinion-pairs.js';
import { SURVEY_ROWS } from '../data/surveys/survey-topics.js';
import { InputError } from '../errors.js';
import { counted } from '../terminal/format.js';
import { shortName } from '../terminal/names.js';
import {
  countOption,
  defineAction,
  numberOption,
  type Output,
  parseColumns,
  parsedOption,
  parseList,
  templateOption,
} from './command.js';
import { checkOut, requireOut } from './out.js';

/** `group-robust data global-opinions`, `data survey` and `data prism`: from surveys and ratings to preference pairs. */
export function registerData(program: Command): void {
  const { min, max, default: rows } = SURVEY_ROWS;
  const data = program.command('data').description('make preference pairs of survey data');

  defineAction(
    withFolder(
      data
        .command('global-opinions')
        .description('pairs of GlobalOpinionQA: train.jsonl, validation.jsonl, test.jsonl and summary.json')
        .requiredOption(
          '--file <file>',
          'CSV, JSONL or Parquet of question, selections, options, or the hub id Anthropic/llm_global_opinions',
        )
        .addOption(
          parsedOption(
            '--groups <names>',
            'countries as in the file, separated by commas; quote a name with a comma: \'"A, B",C\'',
            parseList,
          ).conflicts('regions'),
        )
        .option('--regions', 'all countries of the file, with world regions as groups, instead of --groups')
        .addOption(
          parsedOption(
            '--fold <k/n>',
            'cut the questions into n folds: the k-th is tested, the next one for validation, e.g. 1/5 (default: 80/10/10 of each group)',
            parseFold,
          ),
        )
        .addOption(surveyTemplate())
        .addOption(seedOption('decides the split and which answers lose').default(42))
        .addOption(
          new Option(
            '--pairs <which>',
            'argmax: the most frequent answer against another; all: every two answers, with the share that prefers the first as its `preference`',
          )
            .choices(['argmax', 'all'] satisfies OpinionPairing[])
            .default('argmax'),
        )
        .option('--multi-pair', 'up to four pairs a question, from the ranking of its answers')
        .option('--skip-bad-rows', 'leave out rows that cannot be read, instead of stopping'),
    ),
    async (options, output) => {
      const { readSurvey } = await import('../data/surveys/global-opinions.js');
      const { opinionPairs, writeOpinionPairs } = await import('../data/surveys/opinion-pairs.js');
      const { worldRegions } = await import('../data/surveys/world-regions.js');
      const { writeFolderWhole } = await import('../files/write.js');
      const out = checkOut(options, { inputs: [options.file], folder: madeOfSurvey });
      const { regions, groups, seed, fold, pairs, multiPair, skipBadRows, template } = options;
      if (multiPair && pairs === 'all')
        throw new InputError('does nothing with --pairs all', { at: { field: '--multi-pair' }, fix: 'leave it out' });
      if (!groups && !regions)
        throw new InputError('is missing', { at: { field: '--groups' }, fix: 'name countries, or give --regions' });
      if (regions && !fold)
        throw new InputError('is needed with --regions', {
          at: { field: '--fold' },
          fix: 'e.g. --fold 1/5; random tenths would test a region on questions that it was trained on',
        });
      const { localCsv } = await import('../hub/local.js');
      const survey = await readSurvey((await localCsv(options.file)).path);
      const made = opinionPairs(survey, {
        groups: groups ?? worldRegions(survey),
        seed,
        fold,
        pairs,
        multiPair,
        skipBadRows,
        template,
      });
      await writeFolderWhole(out.path, (folder) => writeOpinionPairs(folder, made), out);
      await logSummary(output, made.summary, options.out);
      return { out: options.out, ...made.summary };
    },
  );

  defineAction(
    withFolder(
      data
        .command('survey')
        .description(
          'an invented survey of five countries with known truth: survey.csv, truth.json, and pairs as above',
        )
        .addOption(surveyTemplate())
        .addOption(seedOption('decides everything').default(0))
        .addOption(
          countOption('--rows <n>', `(question, country) pairs in all, ${min} to ${max}`, { min, max }).default(rows),
        ),
    ),
    async (options, output) => {
      const { writeSurvey } = await import('../data/surveys/invented-survey.js');
      const { writeFolderWhole } = await import('../files/write.js');
      const out = checkOut(options, { folder: madeOfSurvey });
      const summary = await writeFolderWhole(out.path, (folder) => writeSurvey(folder, options), out);
      await logSummary(output, summary, options.out);
      return { out: options.out, ...summary };
    },
  );

  registerPrism(data);
}

function registerPrism(data: Command): void {
  defineAction(
    withFolder(
      data
        .command('prism')
        .description(
          'pairs of PRISM, by what is known of the people: train.jsonl, validation.jsonl, test.jsonl, summary.json',
        )
        .requiredOption(
          '--from <folder>',
          'folder with survey.jsonl and conversations.jsonl, or the hub id HannahRoseKirk/prism-alignment',
        )
        .addOption(
          parsedOption(
            '--group-by <fields>',
            'field of the people that names the group, such as location.special_region; several make a cross product',
            parseColumns,
          ).makeOptionMandatory(),
        )
        .addOption(
          numberOption('--tie <points>', 'two answers whose scores differ by no more make no pair', { min: 0 }).default(
            5,
          ),
        )
        .addOption(countOption('--min-pairs <n>', 'groups with fewer pairs are small (default: none is)', { min: 1 }))
        .addOption(
          new Option('--small <what>', 'small groups: pool them in one, or drop them (default: pool)').choices([
            'pool',
            'drop',
          ] as const),
        )
        .option('--per-person', 'weights by which each person of a group counts the same (default: each pair)')
        .addOption(seedOption('decides who is in which split').default(0)),
    ),
    async (options, output) => {
      const { prismFiles, prismPairs, writePrism } = await import('../data/surveys/prism.js');
      const { localFiles } = await import('../hub/local.js');
      const { writeFolderWhole } = await import('../files/write.js');
      const { from, groupBy, tie, minPairs = 1, small = 'pool', perPerson = false, seed } = options;
      if (options.small !== undefined && options.minPairs === undefined)
        throw new InputError('does nothing without --min-pairs', { at: { field: '--small' }, fix: 'leave it out' });
      const names = Object.values(prismFiles);
      const inputs = [from, ...names.map((name) => join(from, name))];
      const out = checkOut(options, { inputs, folder: madeOfSurvey });
      const { path } = await localFiles(from, names);
      const made = await prismPairs(path, { groupBy, tie, minPairs, small, perPerson, seed });
      await writeFolderWhole(out.path, async (folder) => writePrism(folder, made), out);
      const { groups, small: few, left_out: left } = made.summary;
      for (const [name, { people, pairs }] of Object.entries(groups))
        output.log(
          `${shortName(name)}: ${counted(people, 'person', 'people')} -> ${pairs.train} train, ${pairs.validation} validation, ${pairs.test} test pairs`,
        );
      for (const [name, pairs] of Object.entries(few.groups))
        output.log(
          `${shortName(name)}: ${counted(pairs, 'pair')}, ${few.pooled === null ? 'left out' : `in "${shortName(few.pooled)}"`}`,
        );
      output.log(`no pairs: ${left.ties} ties, ${left.equal} equal, ${left.empty} empty -> ${out.path} (seed ${seed})`);
      return { out: out.path, ...made.summary };
    },
  );
}

/** "1/5": of how many folds which one is tested. */
function parseFold(flag: string, text: string): Fold {
  const [number, of] = text.split('/').map(Number);
  if (number !== undefined && of !== undefined && /^\d+\/\d+$/.test(text) && of >= 3 && number >= 1 && number <= of)
    return { number, of };
  throw new InputError(`"${text}" is no fold`, {
    at: { field: flag },
    fix: 'e.g. 1/5: five folds, of which the first is tested; there must be three or more',
  });
}

/** What both commands write. */
const madeOfSurvey = /^((train|validation|test)\.jsonl|(summary|truth)\.json|survey\.csv)$/;

function withFolder<Arguments extends unknown[], Options extends OptionValues, Globals extends OptionValues>(
  command: Command<Arguments, Options, Globals>,
) {
  return requireOut(command, '--out <dir>', 'folder to make');
}

function surveyTemplate() {
  return templateOption('how the country comes into the prompts').default(paperTemplate, `"${paperTemplate.text}"`);
}

function seedOption(description: string) {
  return countOption('--seed <n>', description, { min: 0, max: Number.MAX_SAFE_INTEGER });
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
