import { availableParallelism } from 'node:os';
import { InputError, placeOf, present } from '../../errors.js';
import type { Outcome } from '../../processes/bounded-process.js';
import { SyncProcess } from '../../processes/sync-process.js';
import type { TokenizerCall, TokenizerReply, TokenizerRequest } from './tokenizer-process.js';

/** MB that the tokenizers of a process may take in all; that of Gemma takes 400 to 600. */
const MEMORY = 1536;
/** Seconds: to open one, for any other request, and for each million characters of its text. */
const TIME = { open: 60, least: 10, perMillion: 30 };

/** When further processes encode too, and how many. The ids do not depend on it. */
export interface Sharing {
  /** Characters that were encoded before. */
  after: number;
  helpers(): number;
}

const SHARING: Sharing = {
  // They take as long as it takes to open Gemma's tokenizer.
  after: 2 ** 22,
  helpers: () => Math.min(3, availableParallelism() - 1, Math.floor(process.availableMemory() / (MEMORY * 2 ** 20))),
};

/** Their regular expressions and chat templates are programs from a file: they run where time and memory are bounded. */
class TokenizerProcess extends SyncProcess<TokenizerRequest, TokenizerReply> {
  constructor() {
    super(new URL('./tokenizer-process.js', import.meta.url).href, MEMORY);
  }
}

/** The one that has all tokenizers. */
const first = new TokenizerProcess();
let lastId = 0;
/** Tokenizers that nobody holds any longer. */
const unused: number[] = [];
const held = new FinalizationRegistry<{ id: number; helpers: Helper[] }>(({ id, helpers }) => {
  unused.push(id);
  endAll(helpers);
});

/** A further process, which has one tokenizer alone. */
interface Helper {
  process: TokenizerProcess;
  state: 'opening' | 'open' | 'failed';
}

function endAll(helpers: Helper[]): void {
  for (const { process } of helpers.splice(0)) process.end();
}

/** What asks processes about one tokenizer. */
export class TokenizerClient {
  private readonly id = ++lastId;
  /** Characters that were encoded at once. */
  private encoded = 0;
  private readonly helpers: Helper[] = [];

  constructor(
    private readonly file: string,
    private readonly sharing: Sharing = SHARING,
  ) {
    held.register(this, { id: this.id, helpers: this.helpers });
  }

  /** @throws InputError what the tokenizer finds at fault, and that it takes too much time or memory */
  ask<Value>(call: TokenizerCall): Value {
    this.send(first, call);
    return this.valueOf(call, first.wait());
  }

  /** Encodes texts, in several processes where there were many before. */
  encodeShared(texts: readonly string[]): number[][] {
    const processes = [first, ...this.openHelpers()];
    const parts = runsOf(texts, processes.length).map((run, i) => {
      const call: TokenizerCall = { kind: 'encode', texts: run };
      return { process: present(processes[i]), call };
    });
    for (const { process, call } of parts) this.send(process, call);
    this.encoded += charactersOf(texts);
    // All are waited for before the fault of one is told: what is asked next would be given the outcome of this.
    const answered = parts.map(({ process, call }) => ({ call, outcome: process.wait() }));
    return answered.flatMap(({ call, outcome }) => this.valueOf<number[][]>(call, outcome));
  }

  /** Ends the further processes, whose memory others can use. */
  endSharing(): void {
    endAll(this.helpers);
    this.encoded = 0;
  }

  /** Those that can encode by now. They open the tokenizer while the others go on. */
  private openHelpers(): TokenizerProcess[] {
    const call: TokenizerCall = { kind: 'open' };
    if (this.helpers.length === 0 && this.encoded >= this.sharing.after)
      for (let count = this.sharing.helpers(); count > 0; count--) {
        const helper: Helper = { process: new TokenizerProcess(), state: 'opening' };
        this.helpers.push(helper);
        this.send(helper.process, call);
      }
    for (const helper of this.helpers)
      if (helper.state === 'opening' && helper.process.answered) {
        const outcome = helper.process.wait();
        // It was to save time: where memory or time does not suffice for it too, the others do its work.
        helper.state = typeof outcome !== 'string' && 'value' in outcome.reply ? 'open' : 'failed';
        if (helper.state === 'failed') helper.process.end();
      }
    return this.helpers.filter(({ state }) => state === 'open').map(({ process }) => process);
  }

  private send(process: TokenizerProcess, call: TokenizerCall): void {
    const close = process === first ? unused.splice(0) : [];
    process.send({ id: this.id, file: this.file, close, call }, secondsFor(call));
  }

  private valueOf<Value>(call: TokenizerCall, outcome: Outcome<TokenizerReply>): Value {
    if (typeof outcome === 'string') {
      const what = call.kind === 'render' || call.kind === 'template' ? 'its chat template' : 'it';
      const how = outcome === 'late' ? `longer than ${secondsFor(call)} s` : `more than ${MEMORY} MB`;
      const where = 'at' in call && call.at.file !== undefined ? ` with the conversation at ${placeOf(call.at)}` : '';
      throw new InputError(`${what} takes ${how}${where}`, {
        at: { file: this.file },
        fix: 'check the loops of the template and the regular expressions of the tokenizer, or use those of the model',
      });
    }
    const { reply } = outcome;
    if ('value' in reply) return reply.value as Value;
    const { problem, ...details } = reply;
    throw new InputError(problem, details);
  }
}

function secondsFor(call: TokenizerCall): number {
  if (call.kind === 'open') return TIME.open;
  let characters = 0;
  if (call.kind === 'encode') characters = charactersOf(call.texts);
  if (call.kind === 'decode') characters = call.ids.length;
  if (call.kind === 'render') characters = JSON.stringify(call.messages).length;
  return Math.ceil(TIME.least + (TIME.perMillion * characters) / 1e6);
}

function charactersOf(texts: readonly string[]): number {
  return texts.reduce((sum, { length }) => sum + length, 0);
}

/** Cuts a list of texts into at most `count` runs of about as many characters each, in their order. */
function runsOf(texts: readonly string[], count: number): string[][] {
  const perRun = charactersOf(texts) / count;
  const runs = Array.from({ length: count }, (): string[] => []);
  let before = 0;
  for (const text of texts) {
    const middle = before + text.length / 2;
    const run = middle === 0 ? 0 : Math.min(count - 1, Math.floor(middle / perRun));
    present(runs[run]).push(text);
    before += text.length;
  }
  return runs.filter(({ length }) => length > 0);
}
