import type { Command, OptionValues } from '@commander-js/extra-typings';
import { paperTemplate } from '../data/pairs/prompt-template.js';
import type { OpinionSummary } from '../data/surveys/global-opinions.js';
import { SURVEY_ROWS } from '../data/surveys/survey-topics.js';
import { counted } from '../terminal/format.js';
import { shortName } from '../terminal/names.js';
import { countOption, defineAction, type Output, parsedOption, parseList, templateOption } from './command.js';
import { checkOut, requireOut } from './out.js';

/** `group-robust data global-opinions` and `group-robust data survey`: from a survey to preference pairs. */
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
          ).makeOptionMandatory(),
        )
        .addOption(surveyTemplate())
        .addOption(seedOption('decides the split and which answers lose').default(42))
        .option('--multi-pair', 'up to four pairs a question, from the ranking of its answers')
        .option('--skip-bad-rows', 'leave out rows that cannot be read, instead of stopping'),
    ),
    async (options, output) => {
      const { opinionPairs, readSurvey, writeOpinionPairs } = await import('../data/surveys/global-opinions.js');
      const { writeFolderWhole } = await import('../files/write.js');
      const out = checkOut(options, { inputs: [options.file], folder: madeOfSurvey });
      const { groups, seed, multiPair, skipBadRows, template } = options;
      const { localCsv } = await import('../hub/local.js');
      const file = await localCsv(options.file);
      const made = opinionPairs(await readSurvey(file.path), {
        groups,
        seed,
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
