/**
 * Reads TypeScript text just far enough to know what it imports and what it mentions: comments, strings, templates and
 * regular expressions are told apart, nothing else is understood. What may import what is arrows.test.ts.
 */

export interface Import {
  readonly specifier: string;
  readonly line: number;
  /** The whole statement vanishes when it is compiled. */
  readonly typeOnly: boolean;
}

/** Text of the same length and lines: `code` without comments; `bare` also without what stands in strings and regexes. */
interface Stripped {
  readonly code: string;
  readonly bare: string;
}

/** After one of these a slash begins a regular expression, else it divides. */
const BEFORE_REGEX = /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|await|yield|throw))\s*$/;

export function strip(text: string): Stripped {
  let code = '';
  let bare = '';
  /** Depths of braces inside `${...}`, innermost last. */
  const templates: number[] = [];
  let depth = 0;
  const put = (part: string, inCode: boolean, inBare: boolean) => {
    const blank = part.replace(/[^\n]/g, ' ');
    code += inCode ? part : blank;
    bare += inBare ? part : blank;
  };
  /** The end of a template's text from `at` on: behind a closing backtick, or behind an opening `${`. */
  const templateEnd = (at: number): number => {
    for (let index = at; index < text.length; index += 1) {
      if (text[index] === '\\') index += 1;
      else if (text[index] === '`') return index + 1;
      else if (text.startsWith('${', index)) return index + 2;
    }
    return text.length;
  };

  for (let at = 0; at < text.length; ) {
    const rest = text.slice(at, at + 2);
    const char = text[at] ?? '';
    let end = at + 1;
    if (rest === '//') {
      end = text.indexOf('\n', at) < 0 ? text.length : text.indexOf('\n', at);
      put(text.slice(at, end), false, false);
    } else if (rest === '/*') {
      end = text.indexOf('*/', at) < 0 ? text.length : text.indexOf('*/', at) + 2;
      put(text.slice(at, end), false, false);
    } else if (char === "'" || char === '"') {
      while (end < text.length && text[end] !== char && text[end] !== '\n') end += text[end] === '\\' ? 2 : 1;
      end += 1;
      put(text.slice(at, end), true, false);
    } else if (char === '`' || (char === '}' && templates.at(-1) === depth)) {
      if (char === '}') templates.pop();
      end = templateEnd(at + 1);
      if (text.slice(end - 2, end) === '${') templates.push(depth);
      put(text.slice(at, end), true, false);
    } else if (char === '/' && BEFORE_REGEX.test(code.slice(-40))) {
      let inClass = false;
      while (end < text.length && text[end] !== '\n' && (inClass || text[end] !== '/')) {
        if (text[end] === '[') inClass = true;
        else if (text[end] === ']') inClass = false;
        end += text[end] === '\\' ? 2 : 1;
      }
      end += 1;
      put(text.slice(at, end), true, false);
    } else {
      if (char === '{') depth += 1;
      if (char === '}') depth -= 1;
      put(char, true, true);
    }
    at = end;
  }
  return { code, bare };
}

const lineAt = (text: string, index: number) => text.slice(0, index).split('\n').length;

/** Static imports and re-exports, side-effect imports, `import()` and `require()`. */
export function importsOf(text: string): Import[] {
  const { code, bare } = strip(text);
  const found: Import[] = [];
  const forms = [
    /\b(?<word>import|export)\b(?<clause>[^;'"`()]*?)\bfrom\s*(?<quote>['"])(?<name>[^'"]*)\k<quote>/g,
    /\b(?<word>import)(?<clause>)\s*(?<quote>['"])(?<name>[^'"]*)\k<quote>/g,
    /\b(?<word>import|require)(?<clause>)\s*\(\s*(?:(?<quote>['"`])(?<name>[^'"`]*)\k<quote>)?/g,
  ];
  for (const form of forms) {
    for (const match of code.matchAll(form)) {
      // The word itself must be code: `'import x from y'` in a string is none.
      if (bare.slice(match.index, match.index + 6).trim() === '') continue;
      const { clause = '', name } = match.groups ?? {};
      // In `import()` types (`import('x').Y`) the module is only looked at; it is rare enough to be treated like the rest.
      found.push({
        specifier: name ?? '(computed)',
        line: lineAt(code, match.index),
        typeOnly: /^\s*type\b(?!\s*,)/.test(clause),
      });
    }
  }
  return found.sort((a, b) => a.line - b.line);
}

/** Where a word of code (not of a comment or a string) matches. */
export function mentionsOf(text: string, words: readonly RegExp[]): { readonly word: string; readonly line: number }[] {
  const { bare } = strip(text);
  return words.flatMap((word) =>
    [...bare.matchAll(new RegExp(word, 'g'))].map((match) => ({ word: match[0], line: lineAt(bare, match.index) })),
  );
}
