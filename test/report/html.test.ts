import { describe, expect, it } from 'vitest';
import { type Page, renderPage } from '../../src/report/html.js';
import { expectSoundPage } from './page.js';

const evil = '<script>alert("x")</script> & \'co\'';

function page(): Page {
  const chart = {
    description: evil,
    x: { title: evil },
    y: { title: 'y' },
    series: [
      { name: evil, colour: '#000000', points: [{ x: 0, y: 0 }] },
      { name: 'b', colour: '#D55E00', points: [{ x: 0, y: 1 }] },
    ],
  };
  return {
    title: evil,
    summary: evil,
    sections: [
      {
        title: evil,
        text: [evil],
        checks: [
          { claim: evil, outcome: 'holds', detail: evil },
          { claim: 'broken', outcome: 'fails', detail: '' },
          { claim: 'noisy', outcome: 'unclear', detail: 'one seed' },
        ],
        tables: [
          {
            caption: evil,
            columns: [{ title: evil }, { title: 'Loss', numeric: true }, { title: 'Check' }],
            rows: [
              [evil, '17.93 ± 0.27', { outcome: 'holds' }],
              ['b', { text: evil, outcome: 'fails' }, { outcome: 'fails' }],
            ],
          },
        ],
        figures: [{ name: 'figure', chart, caption: evil }],
      },
    ],
    environment: { [evil]: evil },
    config: [{ name: evil, text: evil }],
  };
}

describe('renderPage', () => {
  it('escapes everything that may come from data', async () => {
    const html = await renderPage(page());
    expect(html).not.toContain('<script>alert');
    expectSoundPage(html);
  });

  it('has the outcomes of checks before the sections, each with word and sign', async () => {
    const html = await renderPage(page());
    const header = html.slice(html.indexOf('<header>'), html.indexOf('</header>'));
    expect(header).toContain('<li><span class="holds">✓ holds</span> &lt;script');
    expect(header).toContain('<li><span class="fails">✗ fails</span> broken</li>');
    expect(header).toContain('<li><span class="unclear">≈ unclear</span> noisy (one seed)</li>');
  });

  it('marks header cells, right-aligned numbers and outcomes of tables', async () => {
    const html = await renderPage(page());
    expect(html).toContain('<th scope="col" class="number">Loss</th>');
    expect(html).toContain('<tr><th scope="row">b</th><td class="number">');
    expect(html).toContain('<td class="number">17.93 ± 0.27</td><td><span class="holds">✓ holds</span></td>');
    expect(html).toContain('<span class="fails" role="img" aria-label="fails">✗</span></td>');
  });
});
