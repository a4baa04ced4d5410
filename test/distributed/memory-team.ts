import { GatheringTeam, type Team } from '../../src/distributed/team.js';

/** What members have brought to an exchange, until all of them have come. */
interface Exchange {
  brought: (Uint8Array | undefined)[];
  done: Promise<Uint8Array[]>;
  finish(all: Uint8Array[]): void;
}

/** A team in one process: each member's n-th call meets the n-th calls of the others. */
class MemoryTeam extends GatheringTeam {
  private calls = 0;

  constructor(
    rank: number,
    private readonly exchanges: Exchange[],
    size: number,
  ) {
    super(rank, size, rank);
  }

  protected override gatherBytes(bytes: Uint8Array): Promise<Uint8Array[]> {
    const n = this.calls++;
    if (!this.exchanges[n]) {
      let finish: Exchange['finish'] = () => {};
      const done = new Promise<Uint8Array[]>((resolve) => {
        finish = resolve;
      });
      this.exchanges[n] = { brought: Array.from({ length: this.size }, () => undefined), done, finish };
    }
    const { brought, done, finish } = this.exchanges[n];
    brought[this.rank] = bytes.slice();
    const all = brought.filter((one) => one !== undefined);
    if (all.length === this.size) finish(all);
    return done;
  }

  protected override async broadcast(bytes: Uint8Array): Promise<Uint8Array> {
    const [first] = await this.gatherBytes(bytes);
    return first;
  }
}

export function memoryTeam(size: number): Team[] {
  const exchanges: Exchange[] = [];
  return Array.from({ length: size }, (_, rank) => new MemoryTeam(rank, exchanges, size));
}
