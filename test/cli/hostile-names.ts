/** Names that are only data, and that something on their way may take for more. */
export const hostileNames = [
  // Of every JavaScript object, and of its prototype.
  ...['constructor', 'toString', 'valueOf', 'hasOwnProperty', 'isPrototypeOf', 'toLocaleString', 'toJSON', 'then'],
  ...['__proto__', '__defineGetter__', 'prototype', 'length', 'name', 'undefined'],
  // What looks like another type.
  ...['0', '1', '-1', '007', '1e3', 'NaN', 'Infinity', 'null', 'true', '[object Object]', '{}', '[]', '2026-01-01'],
  // Paths of objects, expressions, templates, formats.
  ...['a.b', 'a[0]', "a['b']", 'datum.label', 'a\\.b', '\\', "it's", '"quoted"', '`tick`', '${', '{{ x }}', '%s%n'],
  // CSV, formulas, paths, Markdown, HTML, XML.
  ...[
    'a,b',
    'a;b',
    'a\tb',
    '=1+1',
    '@SUM(A1)',
    '+1',
    'a/b',
    '../../etc',
    'loss',
    'a/loss',
    'group/a/loss',
    'a|b',
    '# h',
  ],
  ...['<script>alert(1)</script>', '<b>&amp;</b>', ']]>', '<!--', '</svg>'],
  // Line breaks, control characters, marks of direction, characters beyond 16 bits.
  ...[
    'two\nlines',
    'a\r\nb',
    '\u001b[31mred',
    'bell\u0007',
    'a\u2028b',
    '\u202Eabc',
    'שלום',
    'العربية',
    '👩‍👩‍👧',
    'e\u0301',
    '\uFFFF',
  ],
  'x'.repeat(2000),
];
