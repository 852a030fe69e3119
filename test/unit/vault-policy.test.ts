import { describe, expect, test } from 'vitest';
import { freshIdentity } from '#src/vault/identity-file.ts';
import { checkRecipients, describeBinding, sameBinding } from '#src/vault/policy.ts';

const [A, B] = [freshIdentity().recipient, freshIdentity().recipient];
const BROKEN = A.slice(0, -6) + (A.endsWith('qqqqqq') ? 'pppppp' : 'qqqqqq');

describe('the recipients of a policy', () => {
  test('are two at least for `escrow`, or there is a warning', () => {
    expect(checkRecipients('escrow', [A, B])).toEqual([]);
    const warning = ['everything is sealed to one recipient: if its identity is lost, so is everything; name two'];
    expect(checkRecipients('escrow', [A])).toEqual(warning);
    expect(checkRecipients('escrow', [A, A])).toEqual(warning);
  });

  test.each([
    ['escrow', [], 'the policy `escrow` has no recipient to seal to'],
    ['escrow', [A, BROKEN], 'recipient 2 of 2 is no age recipient'],
    ['escrow', ['hunter2', B, A], 'recipient 1 of 3 is no age recipient'],
    ['local', [A, B], "recipients are named, and the vault's policy is `local`"],
    ['none', [A, B], "recipients are named, and the vault's policy is `none`"],
  ] as const)('that do not fit `%s` are refused', (policy, recipients, message) => {
    expect(() => checkRecipients(policy, recipients)).toThrow(
      expect.objectContaining({ code: 'VAULT_RECIPIENT', message }),
    );
  });

  test('are none for `local` and `none`', () => {
    expect(checkRecipients('local', [])).toEqual([]);
    expect(checkRecipients('none', [])).toEqual([]);
  });
});

test('a binding is the same one in any order of its recipients', () => {
  const escrow = (...recipients: string[]) => ({ policy: 'escrow', recipients }) as const;
  expect(sameBinding(escrow(A, B), escrow(B, A))).toBe(true);
  expect(sameBinding(escrow(A, B), escrow(A))).toBe(false);
  expect(sameBinding(escrow(A), escrow(B))).toBe(false);
  expect(sameBinding(escrow(A), { policy: 'local', recipients: [A] })).toBe(false);
  expect(describeBinding(escrow(A, B))).toBe(`\`escrow\` to ${A}, ${B}`);
  expect(describeBinding({ policy: 'none', recipients: [] })).toBe('`none`');
});
