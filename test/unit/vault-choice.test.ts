import { describe, expect, test } from 'vitest';
import { checkBound, chosen, wishOf } from '#src/cli/vault-choice.ts';
import { loadConfig } from '#src/config/load-config.ts';
import { freshIdentity } from '#src/vault/identity-file.ts';
import type { Binding } from '#src/vault/policy.ts';
import { tempFolder } from '../support/temp-folder.ts';

const [A, B] = [freshIdentity().recipient, freshIdentity().recipient];
const ESCROW: Binding = { policy: 'escrow', recipients: [A, B] };
const LOCAL: Binding = { policy: 'local', recipients: [A] };

function wish(env: Record<string, string>, flags: Parameters<typeof loadConfig>[0]['flags'] = {}) {
  using folder = tempFolder();
  return wishOf(loadConfig({ flags, env, cwd: folder.path }));
}

describe('how the vault is to seal', () => {
  test('is `local` where nobody says anything', () => {
    expect(chosen(wish({}), null).binding).toEqual({ policy: 'local', recipients: [] });
  });

  test('is what the database is bound to where the configuration says nothing', () => {
    expect(chosen(wish({}), ESCROW).binding).toEqual(ESCROW);
    expect(chosen(wish({}), { policy: 'none', recipients: [] }).binding.policy).toBe('none');
  });

  test('is what the configuration says', () => {
    const env = { PHOTON_FLEET_VAULT_POLICY: 'escrow', PHOTON_FLEET_VAULT_RECIPIENTS: `${B},${A}` };
    expect(chosen(wish(env), null)).toEqual({ binding: { policy: 'escrow', recipients: [B, A] }, warnings: [] });
  });

  test('asks for recipients where `escrow` was named and they were not, whatever the database has', () => {
    const env = { PHOTON_FLEET_VAULT_POLICY: 'escrow' };
    for (const bound of [null, ESCROW]) {
      expect(() => chosen(wish(env), bound)).toThrow(expect.objectContaining({ code: 'VAULT_RECIPIENT' }));
    }
  });

  test('asked for by hand does away with the recipients of the configuration', () => {
    const env = { PHOTON_FLEET_VAULT_RECIPIENTS: `${A},${B}` };
    expect(wish(env, { 'vault.policy': 'local' })).toEqual({ policy: 'local', recipients: null });
    expect(wish(env, { 'vault.policy': 'escrow' })).toEqual({ policy: 'escrow', recipients: [A, B] });
  });
});

describe('a database that is bound', () => {
  const check = (wanted: Binding, bound: Binding | null) => () => checkBound(wanted, { bound, rewrap: null });

  test('takes the same binding, and any at first', () => {
    expect(check({ policy: 'escrow', recipients: [B, A] }, ESCROW)).not.toThrow();
    expect(check({ policy: 'local', recipients: [] }, LOCAL)).not.toThrow();
    expect(check(ESCROW, null)).not.toThrow();
  });

  test('refuses another one, with what it has and what is asked for', () => {
    expect(check({ policy: 'local', recipients: [] }, ESCROW)).toThrow(
      expect.objectContaining({
        code: 'VAULT_POLICY',
        message: `this database's vault is \`escrow\` to ${A}, ${B}, and the configuration says \`local\``,
      }),
    );
    for (const recipients of [[A], [A, B, freshIdentity().recipient]]) {
      expect(check({ policy: 'escrow', recipients }, ESCROW)).toThrow(
        expect.objectContaining({ code: 'VAULT_POLICY' }),
      );
    }
    expect(check(ESCROW, LOCAL)).toThrow(expect.objectContaining({ code: 'VAULT_POLICY' }));
  });

  test('refuses any while a rewrap is under way', () => {
    expect(() => checkBound(ESCROW, { bound: ESCROW, rewrap: LOCAL })).toThrow(
      expect.objectContaining({ message: `a rewrap to \`local\` to ${A} was begun and has not come to its end` }),
    );
  });
});
