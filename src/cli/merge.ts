import type { Command } from '@commander-js/extra-typings';
import { counted, formatNumber } from '../terminal/format.js';
import { warn } from '../terminal/output.js';
import { defineAction } from './command.js';
import { checkOut, requireOut } from './out.js';

/** `group-robust merge`: a checkpoint with an adapter merged in, for whatever knows no adapters. */
export function registerMerge(program: Command): void {
  const command = program
    .command('merge')
    .description('merge an adapter into a full checkpoint that transformers loads')
    .requiredOption('--model <model>', 'checkpoint folder or hub id the adapter belongs to')
    .requiredOption('--adapter <folder>', 'PEFT adapter, folder or hub id')
    .option('--quiet', 'no progress');
  defineAction(
    requireOut(command, '--out <dir>', 'folder to make'),
    async ({ model, adapter, quiet = false, ...flags }, output) => {
      const { localAdapter, localModel } = await import('../hub/local.js');
      const { mergeAdapter } = await import('../policy/merge.js');
      const { readRecord } = await import('../policy/reference-record.js');
      const out = checkOut(flags, { inputs: [model, adapter], folder: /\.(safetensors|json|jinja|model)$/ });
      const [base, added] = [await localModel(model, { quiet }), await localAdapter(adapter, { quiet })];
      const template = readRecord(added.path)?.template;
      const report = await mergeAdapter(base.path, added.path, out.path, {
        quiet: quiet || output.json,
        replace: out.replace,
      });
      const { merged, largestChange, largestRounding, kept } = report;
      output.log(
        `${out.path}: ${counted(merged, 'weight matrix', 'weight matrices')} merged; the largest change of a weight is ${formatNumber(largestChange, 3)}, ` +
          `the largest error of rounding to the checkpoint's type ${formatNumber(largestRounding, 3)}`,
      );
      if (kept < 0.95)
        warn(
          `in the checkpoint's type the weights keep ${formatNumber(kept, 2)} of what the adapter changes: many are to change by less than they are rounded by; ` +
            'merge into a float32 copy of the checkpoint, or load the adapter beside its base',
        );
      if (template !== undefined)
        warn(
          `the adapter was trained with the template "${template}", which a checkpoint does not carry: pass --template`,
        );
      return { out: out.path, template, ...report };
    },
  );
}
