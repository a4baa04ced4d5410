import type { Command } from '@commander-js/extra-typings';
import { groupValue } from '../data/pairs/groups.js';
import type { LoadPromptsOptions, TokenisedPrompt } from '../data/pairs/prompts.js';
import type { TextTokenizer } from '../data/text/tokenizer.js';
import { InputError, present } from '../errors.js';
import type { Answer } from '../sample/answers.js';
import { counted } from '../terminal/format.js';
import { listNames } from '../terminal/names.js';
import { warn } from '../terminal/output.js';
import type { PairReader } from '../train/inputs.js';
import { countOption, defineAction, groupByOption, numberOption, parsedOption, parseList } from './command.js';
import { type ModelOptions, modelCommand, openModel } from './model.js';
import { checkOut, openLines, requireOut } from './out.js';

/** `group-robust sample`: answers of the policy, drawn token by token. */
export function registerSample(program: Command): void {
  const command = requireOut(
    modelCommand(program, 'sample', 'draw answers of the policy to prompts, or to those of a pairs file')
      .option('--pairs <file>', 'pairs as JSONL, CSV or Parquet: their prompts are answered')
      .option('--prompts <file>', 'the same with prompts alone')
      .addOption(groupByOption())
      .addOption(parsedOption('--groups <names>', 'answer for these groups only (default: all)', parseList))
      .addOption(countOption('--count <n>', 'answers to each prompt (default: 1)', { min: 1, max: 2 ** 20 }))
      .addOption(numberOption('--temperature <t>', '0: always the likeliest token', { min: 0 }).default(1))
      .addOption(
        parsedOption('--top-p <p>', 'draw among the likeliest tokens that have this probability (default: 1)', share),
      )
      .addOption(countOption('--seed <n>', 'decides every draw (default: 0)', { min: 0, max: Number.MAX_SAFE_INTEGER }))
      .addOption(countOption('--max-tokens <n>', 'most tokens of an answer', { min: 1, max: 2 ** 20 }).default(128))
      .addOption(
        countOption('--batch <n>', 'most answers drawn at once; changes none of them', { min: 1 }).default(16),
      ),
    '--out <file>',
    'JSONL to write, one line an answer in order; - for stdout',
  );
  defineAction(command, async (options, output) => {
    const { drawAnswers } = await import('../sample/answers.js');
    const { progress } = await import('../terminal/progress.js');
    const { temperature, topP = 1, count = 1, seed = 0, maxTokens, batch } = options;
    if (temperature === 0) refuseIdle(options);
    const source = sourceOf(options);
    const out = checkOut(options, {
      inputs: [options.model, options.adapter, source.file, options.people, options.tokenizer],
    });
    using file = openLines(out);
    using opened = await openModel(
      options,
      { scores: 'logps', usesReference: false, usesGroups: true },
      (reader, how) => readPrompts(reader, source, { groups: options.groups, ...how, groupBy: options.groupBy }),
    );
    const { policy, tokenizer } = opened;
    if (!out.stdout) output.log(policy.placeText);
    const stops = await stopsOf(opened);
    const prompts = opened.data.map((prompt) => ({ ...prompt, stops: stops[prompt.kind === 'ids' ? 'ids' : 'text'] }));
    const settings = { temperature, topP, count, seed, maxTokens, batch };
    const bar = progress('sampling', prompts.length * count, options.quiet || output.json);
    const all: object[] = [];
    let answers = 0;
    let stopped = 0;
    let unreadable = 0;
    try {
      for await (const answer of drawAnswers(policy, prompts, settings)) {
        const prompt = present(prompts[answer.prompt]);
        const text = prompt.kind === 'ids' ? undefined : textOf(answer, prompt, present(tokenizer));
        if (text?.response_ids) unreadable++;
        const line = lineOf(answer, prompt, text);
        // Under --json stdout has room for the one object only.
        if (out.stdout && output.json) all.push(line);
        else file.append(`${JSON.stringify(line)}\n`);
        if (answer.finishReason === 'stop') stopped++;
        bar.update(++answers);
      }
    } finally {
      bar.stop();
    }
    policy.checkFiles();
    file.finish();
    if (unreadable > 0)
      warn(
        `${counted(unreadable, 'answer')} of ${answers} hold ids that the tokenizer does not know and \`response\` leaves out; ` +
          'these lines have all of them as `response_ids`',
      );
    const template = opened.template?.text;
    if (!out.stdout && template !== undefined) output.log(`template: ${template}`);
    if (!out.stdout)
      output.log(
        `${out.path}: ${counted(answers, 'answer')} to ${counted(prompts.length, 'prompt')}, ${stopped} ended`,
      );
    return {
      prompts: prompts.length,
      answers,
      stopped,
      out: out.path,
      template,
      ...(out.stdout ? { samples: all } : {}),
    };
  });
}

/** @throws InputError */
function share(flag: string, text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (value > 0 && value <= 1) return value;
  throw new InputError(`"${text}" is not a number in (0, 1]`, { at: { field: flag } });
}

/** @throws InputError for what changes nothing where the likeliest token is always taken */
function refuseIdle({ topP, seed, count = 1 }: { topP?: number; seed?: number; count?: number }): void {
  const idle = topP !== undefined ? '--top-p' : seed !== undefined ? '--seed' : count > 1 ? '--count' : undefined;
  if (idle !== undefined)
    throw new InputError('does nothing with --temperature 0', { at: { field: idle }, fix: 'leave it out' });
}

interface Source {
  kind: 'pairs' | 'prompts';
  file: string;
}

/** @throws InputError unless one file is named */
function sourceOf({ pairs, prompts }: { pairs?: string; prompts?: string }): Source {
  if (pairs !== undefined && prompts === undefined) return { kind: 'pairs', file: pairs };
  if (prompts !== undefined && pairs === undefined) return { kind: 'prompts', file: prompts };
  throw new InputError(pairs === undefined ? 'or --prompts is needed' : 'and --prompts are both given', {
    at: { field: '--pairs' },
    fix: 'name one file, of pairs or of prompts',
  });
}

/** A row needs no group, unless something is done with it. */
async function readPrompts(
  reader: PairReader,
  { kind, file }: Source,
  {
    groups,
    groupBy,
    people,
    template,
  }: Pick<ModelOptions, 'groupBy'> & Pick<LoadPromptsOptions, 'people' | 'template'> & { groups?: readonly string[] },
): Promise<{ data: TokenisedPrompt[]; warnings: readonly string[] }> {
  const groupOptional = groupBy === undefined && groups === undefined && !template?.usesGroup;
  const how = { groupBy: groupBy ?? ['group'], groupOptional, people, template, ofPairs: kind === 'pairs' };
  const { prompts, warnings } = await reader.readPrompts(file, how);
  if (groups === undefined) return { data: prompts, warnings };
  const there = [...new Set(prompts.flatMap((prompt) => prompt.groups))];
  const missing = groups.filter((group) => !there.includes(group));
  if (missing.length > 0)
    throw new InputError(`${file} has no prompt of ${listNames(missing)}`, {
      at: { field: '--groups' },
      fix: `use ${listNames(there)}`,
    });
  return { data: prompts.filter((prompt) => prompt.groups.some((name) => groups.includes(name))), warnings };
}

/** What ends an answer: the checkpoint's own stop tokens and, to a prompt of text, the tokenizer's EOS and Gemma's end of a turn. */
async function stopsOf({ model, tokenizer }: { model: string; tokenizer?: TextTokenizer }) {
  const { stopTokens } = await import('../policy/stop-tokens.js');
  const { endOfTurn } = await import('../data/text/control-tokens.js');
  const ids = stopTokens(model);
  return { ids: new Set(ids), text: new Set(tokenizer ? [...ids, tokenizer.eos, ...endOfTurn(tokenizer)] : ids) };
}

interface AnswerText {
  prompt: string;
  response: string;
  /** Where the tokenizer does not know all of them: a model may have more rows than it has tokens. */
  response_ids?: number[];
}

function textOf(
  { tokens, finishReason }: Answer,
  { prompt }: Pick<TokenisedPrompt, 'prompt'>,
  tokenizer: TextTokenizer,
): AnswerText {
  return {
    prompt: tokenizer.decode(prompt[0] === tokenizer.bos ? prompt.subarray(1) : prompt),
    response: tokenizer.decode(finishReason === 'stop' ? tokens.slice(0, -1) : tokens),
    ...(tokens.some((id) => id >= tokenizer.vocabulary) && { response_ids: tokens }),
  };
}

/** @param text absent: the prompt was given as ids, and so are both here */
function lineOf(
  { sample, tokens, logProbability, finishReason }: Answer,
  { line, groups, prompt }: TokenisedPrompt,
  text: AnswerText | undefined,
): object {
  return {
    line,
    ...(groups[0] === '' ? {} : { group: groupValue(groups) }),
    sample,
    ...(text ?? { prompt_ids: Array.from(prompt), response_ids: tokens }),
    logprob: logProbability,
    tokens: tokens.length,
    finish_reason: finishReason,
  };
}
