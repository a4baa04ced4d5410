import { InputError, type InputLocation } from '../errors.js';
import type { WeightSettings } from '../objective/group-weights.js';
import type { LossName, LossSettings } from '../objective/losses.js';

/** The six methods of the paper's synthetic experiments. */
export const methodNames = ['dpo', 'is-dpo', 'gr-dpo', 'ipo', 'is-ipo', 'gr-ipo'] as const;
/** Besides those the methods of the hinge loss, which the paper has not. */
export const allMethodNames = [...methodNames, 'hinge', 'is-hinge', 'gr-hinge'] as const;
export type MethodName = (typeof allMethodNames)[number];

/** How θ moves once the group weights q of an iteration are known. */
export type Solver =
  /** θ ← θ − η_θ Σ_g q_g ∇L_g over the full data (paper Algorithm 1 with the batch of all pairs). */
  | { solver: 'gradient'; learningRate: number }
  /** θ ← argmin Σ_g q_g L_g, IPO only (paper Algorithm 2). */
  | { solver: 'regression' };

/** Everything that defines a training run except its data and θ⁰. */
export type MethodSettings = Solver & {
  loss: LossSettings;
  weights: WeightSettings;
  iterations: number;
  /** Of the draws of weights that draw, and of the order of pairs where `batch` takes some at a time; default 0. */
  seed?: number;
  /** Pairs of a gradient step, in a new random order each epoch, the same for all methods of a seed; absent: all pairs. */
  batch?: number;
  /** λ ≥ 0: adds λ‖θ‖² to every group's loss in the θ step, which leaves α as it is. Default 0. */
  ridge?: number;
  /** B: after each gradient step θ is projected on the ball ‖θ‖₂ ≤ B; default no projection. */
  radius?: number;
  /** Gives the mean of the iterates θ_1..θ_t, the policy that Proposition 4.1 is about, in place of θ_t. Default false. */
  average?: boolean;
  /** Constants c of {@link AdaptiveSteps}; absent: constant steps. */
  adaptive?: {
    /** η_θ,t = c/√(Σ‖∇̄‖²) instead of `learningRate`; gradient steps only. */
    theta?: number;
    /** η_α,t = η_α · c/√(Σ‖∇̄‖²); weights that move only. */
    alpha?: number;
  };
};

export interface MethodOptions {
  /** Replaces the method's own number of iterations, where it iterates at all. */
  iterations?: number;
  /** χ of the robust methods, see MirrorAscentSettings; default 1. */
  chi?: number;
  /** Weights of the robust methods in place of mirror ascent on the simplex. */
  weighting?: WeightSettings;
  /** How the IPO family moves θ; default regression, but gradient with `thetaStep` or `batch`. */
  ipoSolver?: 'regression' | 'gradient';
  /** β of every method; default the paper's. */
  beta?: number;
  /** η_θ of gradient steps. */
  thetaStep?: number;
  /** η_α of the robust methods. */
  alphaStep?: number;
  /** C of the robust methods, or one for each group, see MirrorAscentSettings. */
  adjustment?: number | number[];
  /** ε of the DPO family. */
  labelSmoothing?: number;
  /** Pairs of a gradient step, see MethodSettings. */
  batch?: number;
  /** λ of every method, see MethodSettings. */
  ridge?: number;
  /** B of the methods that take gradient steps, see MethodSettings. */
  radius?: number;
  /** See MethodSettings; of the methods that iterate. */
  average?: boolean;
  /** Goes to the methods that have such steps, see MethodSettings. */
  adaptive?: { theta?: number; alpha?: number };
}

/** Whether α moves, so that χ has a meaning. */
export function isRobust(name: MethodName): boolean {
  return name.startsWith('gr-');
}

/** The loss of a method. */
export function lossOf(name: MethodName): LossName {
  return name.replace(/^(is|gr)-/, '') as LossName;
}

/** Whether a second iteration changes anything: fixed weights make the regression exact at once. */
export function iterates(name: MethodName, options: MethodOptions = {}): boolean {
  return isRobust(name) || takesGradientSteps(name, options);
}

function takesGradientSteps(name: MethodName, options: MethodOptions): boolean {
  return solverOf(name, options) === 'gradient';
}

/** Which methods read an option that not all of them do. */
const readers = {
  iterations: iterates,
  chi: isRobust,
  weighting: isRobust,
  alphaStep: isRobust,
  adjustment: isRobust,
  adaptiveAlpha: isRobust,
  average: iterates,
  labelSmoothing: (name) => lossOf(name) === 'dpo',
  radius: takesGradientSteps,
  adaptiveTheta: takesGradientSteps,
} as const satisfies Record<string, (name: MethodName, options: MethodOptions) => boolean>;

/** Options that not all methods read, as the configuration of a sweep has them. */
export const limitedOptions = Object.keys(readers) as (keyof typeof readers)[];

/** Whether an option changes anything of a method. */
export function readsOption(name: MethodName, option: keyof typeof readers, options: MethodOptions): boolean {
  return readers[option](name, options);
}

function solverOf(name: MethodName, { ipoSolver, thetaStep, batch }: MethodOptions): Solver['solver'] {
  if (lossOf(name) !== 'ipo') return 'gradient';
  return ipoSolver ?? (thetaStep === undefined && batch === undefined ? 'regression' : 'gradient');
}

/** Options that may cancel others, as the command line and the configuration of a sweep have them. */
type ContestedOption =
  | 'chi'
  | 'alphaStep'
  | 'adjustment'
  | 'weighting'
  | 'thetaStep'
  | 'batch'
  | 'adaptiveTheta'
  | 'adaptiveAlpha';

/**
 * Refuses options of which one makes another that the method reads do nothing.
 * @param place where an option stands, and what it is called there
 * @throws InputError at the place of the option that does nothing
 */
export function checkOptions(
  name: MethodName,
  options: MethodOptions,
  place: (option: ContestedOption) => InputLocation & { field: string } = (option) => ({
    field: option.replace(/^adaptive(.)/, (_, letter: string) => `adaptive.${letter.toLowerCase()}`),
  }),
): void {
  const { weighting, ipoSolver, thetaStep, adaptive = {} } = options;
  const refuse = (option: ContestedOption, problem: string, fix: string) => {
    throw new InputError(problem, { at: place(option), fix });
  };
  if (isRobust(name) && weighting !== undefined) {
    for (const option of ['chi', 'alphaStep', 'adjustment'] as const)
      if (options[option] !== undefined)
        refuse(option, `does nothing with ${place('weighting').field}, which has it`, 'leave one of the two out');
    if (adaptive.alpha !== undefined && !('step' in weighting))
      refuse('adaptiveAlpha', `has no effect on ${weighting.weights} weights, which have no step size`, 'leave it out');
  }
  if (lossOf(name) === 'ipo' && ipoSolver === 'regression')
    for (const option of ['thetaStep', 'batch'] as const)
      if (options[option] !== undefined)
        refuse(option, 'does nothing with ipoSolver: regression, which takes no steps', 'leave one of the two out');
  if (thetaStep !== undefined && adaptive.theta !== undefined && takesGradientSteps(name, options))
    refuse(
      'thetaStep',
      `does nothing with ${place('adaptiveTheta').field}, which sets the steps`,
      'leave one of the two out',
    );
}

/**
 * The paper's hyper-parameters (Table 1), with what the options change.
 * @throws InputError on options of which one makes another do nothing
 */
export function methodSettings(name: MethodName, options: MethodOptions = {}): MethodSettings {
  checkOptions(name, options);
  const settings = paperSettings(name, options);
  const { ridge, radius, average, adaptive = {} } = options;
  const steps = {
    ...(adaptive.theta !== undefined && settings.solver === 'gradient' && { theta: adaptive.theta }),
    ...(adaptive.alpha !== undefined && isRobust(name) && { alpha: adaptive.alpha }),
  };
  return {
    ...settings,
    ...(ridge !== undefined && { ridge }),
    ...(radius !== undefined && settings.solver === 'gradient' && { radius }),
    ...(average && iterates(name, options) && { average }),
    ...(Object.keys(steps).length > 0 && { adaptive: steps }),
  };
}

function paperSettings(name: MethodName, options: MethodOptions): MethodSettings {
  const { chi = 1, weighting, alphaStep, adjustment, labelSmoothing, batch } = options;
  const loss = lossOf(name);
  const ipo = loss === 'ipo';
  const weights: WeightSettings = isRobust(name)
    ? (weighting ?? {
        weights: 'mirror-ascent',
        step: alphaStep ?? (ipo ? 0.01 : 0.5),
        chi,
        ...(adjustment !== undefined && { adjustment }),
      })
    : { weights: name.startsWith('is-') ? 'importance' : 'erm' };
  const common = {
    loss: {
      loss,
      beta: options.beta ?? (ipo ? 0.1 : 1),
      ...(labelSmoothing !== undefined && loss === 'dpo' && { labelSmoothing }),
    },
    weights,
  };
  if (solverOf(name, options) === 'regression')
    return { solver: 'regression', ...common, iterations: iterates(name) ? (options.iterations ?? 100) : 1 };
  return {
    solver: 'gradient',
    // The gradient's Lipschitz constant of IPO is at most 2 max‖d‖² = 3.07 on these features, so steps below 0.65 are stable.
    learningRate: options.thetaStep ?? (ipo ? 0.5 : 0.9),
    ...common,
    iterations: options.iterations ?? 10_000,
    ...(batch !== undefined && { batch }),
  };
}
