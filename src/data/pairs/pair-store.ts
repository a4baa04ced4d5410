import type { TokenisedPair } from './dataset.js';

/** Pairs of a block: enough that blocks cost nothing, few enough that none is ever copied whole but at its end. */
const BLOCK = 4096;

/**
 * Pairs without an object and three arrays for each: their numbers lie in columns and their tokens behind one another, about 100
 * bytes a pair beside its tokens.
 */
export class PairStore {
  readonly pairs: TokenisedPair[] = [];
  private block: Block | undefined;

  constructor(private readonly file: string) {}

  /** @param line or row, for the pair's id */
  add(line: number, pair: Omit<TokenisedPair, 'id'>): void {
    if (this.block === undefined || this.block.size === BLOCK) {
      this.block?.close();
      this.block = new Block(this.file);
    }
    this.pairs.push(this.block.add(line, pair));
  }
}

class Block {
  size = 0;
  readonly lines = new Float64Array(BLOCK);
  readonly weights = new Float64Array(BLOCK);
  readonly preferences = new Float64Array(BLOCK);
  readonly groups = new Int32Array(BLOCK);
  /** Where the tokens of each pair begin, and those of the pair after the last. */
  readonly starts = new Int32Array(BLOCK + 1);
  readonly promptLengths = new Int32Array(BLOCK);
  readonly chosenLengths = new Int32Array(BLOCK);
  tokens = new Int32Array(2 ** 16);

  constructor(readonly file: string) {}

  add(
    line: number,
    { group, prompt, chosen, rejected, weight, preference = 1 }: Omit<TokenisedPair, 'id'>,
  ): StoredPair {
    const row = this.size++;
    const start = this.starts[row];
    const end = start + prompt.length + chosen.length + rejected.length;
    if (end > this.tokens.length) {
      const grown = new Int32Array(2 * end);
      grown.set(this.tokens.subarray(0, start));
      this.tokens = grown;
    }
    this.tokens.set(prompt, start);
    this.tokens.set(chosen, start + prompt.length);
    this.tokens.set(rejected, start + prompt.length + chosen.length);
    this.lines[row] = line;
    this.weights[row] = weight;
    this.preferences[row] = preference;
    this.groups[row] = group;
    this.starts[row + 1] = end;
    this.promptLengths[row] = prompt.length;
    this.chosenLengths[row] = chosen.length;
    return new StoredPair(this, row);
  }

  /** Gives back what no pair has taken. */
  close(): void {
    this.tokens = this.tokens.slice(0, this.starts[this.size]);
  }
}

class StoredPair implements TokenisedPair {
  constructor(
    private readonly block: Block,
    private readonly row: number,
  ) {}

  get id(): string {
    return `${this.block.file}:${this.block.lines[this.row]}`;
  }

  get group(): number {
    return this.block.groups[this.row];
  }

  set group(group: number) {
    this.block.groups[this.row] = group;
  }

  get weight(): number {
    return this.block.weights[this.row];
  }

  set weight(weight: number) {
    this.block.weights[this.row] = weight;
  }

  get preference(): number {
    return this.block.preferences[this.row];
  }

  get prompt(): Int32Array {
    const { tokens, starts, promptLengths } = this.block;
    const start = starts[this.row];
    return tokens.subarray(start, start + promptLengths[this.row]);
  }

  get chosen(): Int32Array {
    const { tokens, starts, promptLengths, chosenLengths } = this.block;
    const start = starts[this.row] + promptLengths[this.row];
    return tokens.subarray(start, start + chosenLengths[this.row]);
  }

  get rejected(): Int32Array {
    const { tokens, starts, promptLengths, chosenLengths } = this.block;
    const start = starts[this.row] + promptLengths[this.row] + chosenLengths[this.row];
    return tokens.subarray(start, starts[this.row + 1]);
  }
}
