import { answerRequests } from '../processes/bounded-child.js';

/** Runs in a process of its own, see adapted-modules.ts: matches expressions against texts. */

export interface PatternRequest {
  /** Each begins the match where a text begins. */
  expressions: readonly string[];
  texts: readonly string[];
}

/** For each expression and text the part that a group `idx` has matched, '' where there is none; null where nothing matches. */
export type PatternReply = { matches: (string | null)[][] } | { problem: string; expression: number };

function replyTo({ expressions, texts }: PatternRequest): PatternReply {
  const matches: (string | null)[][] = [];
  for (const [i, expression] of expressions.entries()) {
    let compiled: RegExp;
    try {
      // With "u" what only Python's expressions have is an error, and not something else.
      compiled = new RegExp(`^(?:${expression})`, 'su');
    } catch (error) {
      return { problem: (error as Error).message, expression: i };
    }
    matches.push(
      texts.map((text) => {
        const match = compiled.exec(text);
        return match && (match.groups?.idx ?? '');
      }),
    );
  }
  return { matches };
}

answerRequests(replyTo);
