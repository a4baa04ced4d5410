import type { Expected } from './expected.js';
import type { MethodName, MethodSettings } from './methods.js';
import type { BanditSetting } from './preferences.js';
import type { Quantity } from './run.js';

/** One curve of a figure: a method, or GR-IPO at one χ. */
export interface Arm {
  /** Unique in its figure: `gr-ipo`, `χ = 0.2`. */
  label: string;
  method: MethodName;
  settings: MethodSettings;
  expected: Expected;
}

/** One of the paper's synthetic experiments. */
export interface BanditFigure {
  /** Its number in the paper. */
  number: number;
  title: string;
  scenario: string;
  setting: BanditSetting;
  arms: readonly Arm[];
  /** What is drawn and compared. */
  quantities: readonly Quantity[];
  /** What the paper says of the outcome. */
  claim: string;
}
