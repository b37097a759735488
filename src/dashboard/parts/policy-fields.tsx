/** Policy and aggression as a person chooses them. */
import type { ComponentChildren } from 'preact';
import { ownRequirements, type PolicyDraft, REQUIREMENT_FIELDS } from '../lib/draft.ts';
import type { POLICY_NAMES, PolicyChoice } from '../lib/policies.ts';
import { usePolicyChoices } from '../net/hooks.ts';

type PolicyName = keyof typeof POLICY_NAMES;

/** The empty value: what holds where none is named. */
export function PolicySelect({
  value,
  fallback,
  choices,
  inline = false,
  onChange,
}: {
  readonly value: string;
  readonly fallback: PolicyName;
  readonly choices: readonly PolicyChoice[];
  readonly inline?: boolean;
  readonly onChange: (policy: string) => void;
}) {
  return (
    <label class={inline ? 'field inline' : 'field'}>
      <span>Policy</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        <option value="">{fallback} (as usual)</option>
        {choices.map(({ name, what }) => (
          <option key={name} value={name}>
            {name}: {what}
          </option>
        ))}
      </select>
    </label>
  );
}

export function PolicyFields({
  draft,
  fallback,
  onChange,
}: {
  readonly draft: PolicyDraft;
  /** The policy that holds where none is named. */
  readonly fallback: PolicyName;
  readonly onChange: (draft: PolicyDraft) => void;
}) {
  const own = draft.aggression !== null;
  const choices = usePolicyChoices();
  const named = choices.find(({ name }) => name === (draft.policy === '' ? fallback : draft.policy));
  const shown = draft.aggression ?? named?.aggression ?? 0.5;
  return (
    <div class="policy-fields">
      <PolicySelect
        value={draft.policy}
        fallback={fallback}
        choices={choices}
        onChange={(policy) => onChange({ ...draft, policy })}
      />
      <div class="field">
        <label for="aggression">
          Aggression <output class="figure">{shown}</output>
          {!own && <span class="hint"> as the policy says</span>}
        </label>
        <input
          id="aggression"
          type="range"
          min={0}
          max={1}
          step={0.1}
          value={shown}
          aria-valuetext={`${shown}${own ? '' : ', as the policy says'}`}
          onInput={(event) => onChange({ ...draft, aggression: Number(event.currentTarget.value) })}
        />
        <div class="range-ends" aria-hidden="true">
          <span>gentle</span>
          <span>quick</span>
        </div>
        {own && (
          <button type="button" class="link-button" onClick={() => onChange({ ...draft, aggression: null })}>
            As the policy says
          </button>
        )}
      </div>
      <OwnRequirements draft={draft} inForce={ownRequirements(draft)} onChange={onChange} />
    </div>
  );
}

/** The four requirements, where they are to be others than the policy's. */
export function OwnRequirements({
  draft,
  inForce,
  children,
  onChange,
}: {
  readonly draft: PolicyDraft;
  /** So many hold, also where the fields are folded away. */
  readonly inForce: number;
  /** Behind the fields. */
  readonly children?: ComponentChildren;
  readonly onChange: (draft: PolicyDraft) => void;
}) {
  return (
    <details class="more">
      <summary>Requirements of your own{inForce > 0 && <span class="hint"> ({inForce} in force)</span>}</summary>
      <div class="form row">
        {REQUIREMENT_FIELDS.map(({ name, label, hint }) => (
          <TextField
            key={name}
            label={label}
            value={draft[name]}
            hint={hint}
            onInput={(text) => onChange({ ...draft, [name]: text })}
          />
        ))}
        {children}
      </div>
    </details>
  );
}

export function TextField({
  label,
  value,
  hint,
  onInput,
}: {
  readonly label: string;
  readonly value: string;
  readonly hint: string;
  readonly onInput: (value: string) => void;
}) {
  return (
    <label class="field">
      <span>{label}</span>
      <input
        value={value}
        placeholder={hint}
        spellcheck={false}
        autoComplete="off"
        onInput={(event) => onInput(event.currentTarget.value)}
      />
    </label>
  );
}
