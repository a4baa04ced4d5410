import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { MetricsLine } from './metrics-line.js';

/**
 * A TensorBoard event file: the numbers of metrics.jsonl as scalars, so that `tensorboard --logdir runs` shows every run.
 *
 * A file holds TFRecords, each an `Event` protobuf (tensorflow/core/util/event.proto): first the file's version, then the
 * start of a session, then one event per step with all its scalars. A resumed run adds a file of its own; its session starts at `firstStep`,
 * so that TensorBoard drops what earlier files hold from that step on and shows nothing twice.
 * Files are read in the order of their names, which begin with the time.
 */
export class EventFile {
  private readonly file: number;

  /**
   * @param folder the run folder, which exists
   * @param firstStep step of the first line that will be written
   * @param seconds clock of the events, seconds since 1970
   */
  constructor(
    folder: string,
    firstStep: number,
    private readonly seconds: () => number = () => Date.now() / 1000,
  ) {
    const name = `events.out.tfevents.${Math.round(this.seconds() * 1000)}.group-robust`;
    this.file = openSync(join(folder, name), 'ax');
    this.append(0, bytesField(3, Buffer.from('brain.Event:2')));
    this.append(firstStep, bytesField(7, varintField(1, SESSION_START)));
  }

  /** Writes the numbers of a line (flags as 0 and 1). Text, such as the worst group's name, is left out: it cannot be a scalar. */
  write({ step, ...metrics }: MetricsLine): void {
    const values = Object.entries(metrics).flatMap(([tag, value]) =>
      typeof value === 'string'
        ? []
        : [bytesField(1, Buffer.concat([bytesField(1, Buffer.from(tag)), floatField(2, Number(value))]))],
    );
    this.append(Number(step), bytesField(5, Buffer.concat(values)));
  }

  close(): void {
    closeSync(this.file);
  }

  /** One event, in one write: a reader never sees half of it for long, and a killed run loses at most the last. */
  private append(step: number, what: Buffer): void {
    const event = Buffer.concat([doubleField(1, this.seconds()), step === 0 ? empty : varintField(2, step), what]);
    writeSync(this.file, record(event));
  }
}

const SESSION_START = 1;
const empty = Buffer.alloc(0);

/** TFRecord: length (uint64), masked checksum of the length, data, masked checksum of the data; little-endian. */
function record(data: Buffer): Buffer {
  const framed = Buffer.alloc(data.length + 16);
  framed.writeBigUInt64LE(BigInt(data.length), 0);
  framed.writeUInt32LE(maskedCrc32c(framed.subarray(0, 8)), 8);
  data.copy(framed, 12);
  framed.writeUInt32LE(maskedCrc32c(data), 12 + data.length);
  return framed;
}

/** CRC-32C (Castagnoli, reflected), which Node's own zlib.crc32 is not. */
const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** Rotated and shifted, as TFRecord requires: a checksum of data that contains checksums would be weak. */
function maskedCrc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crcTable[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8);
  crc = ~crc >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

// Protobuf's wire format: a key (field number and wire type), then the value. Field numbers here are all below 16.

function varintField(field: number, value: number): Buffer {
  return Buffer.from([field << 3, ...varint(value)]);
}

function doubleField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(9, (field << 3) | 1);
  bytes.writeDoubleLE(value, 1);
  return bytes;
}

function bytesField(field: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(field << 3) | 2, ...varint(value.length)]), value]);
}

function floatField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(5, (field << 3) | 5);
  bytes.writeFloatLE(value, 1);
  return bytes;
}

/** Seven bits a byte, the lowest first; division, since steps may exceed 32 bits. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return [...bytes, rest];
}
