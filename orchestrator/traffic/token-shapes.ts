/**
 * The shapes of tokens: what providers, forges, clouds and tools make, each known by what it begins
 * with. A shape is a row of parts, each a text or a run of characters; a run takes all that it can
 * and gives nothing back, so that trying a shape reads no character twice.
 */

/** Whether a character (its code, below 128) belongs to it. */
export type CharacterSet = Uint8Array;

const UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LOWER = UPPER.toLowerCase();
const DIGITS = "0123456789";

export function characterSet(characters: string): CharacterSet {
  const set = new Uint8Array(128);
  for (const character of characters) set[character.charCodeAt(0)] = 1;
  return set;
}

export const ALNUM = characterSet(UPPER + LOWER + DIGITS);
export const WORD = characterSet(`${UPPER}${LOWER}${DIGITS}_-`);
export const BASE64 = characterSet(`${UPPER}${LOWER}${DIGITS}+/`);
/** Of either alphabet. */
export const BASE64_ANY = characterSet(`${UPPER}${LOWER}${DIGITS}+/_-`);
const HEX = characterSet(`${DIGITS}abcdefABCDEF`);
const CAPITALS = characterSet(UPPER + DIGITS);
const DOTTED = characterSet(`${UPPER}${LOWER}${DIGITS}_-.`);
const PADDED = characterSet(`${UPPER}${LOWER}${DIGITS}+/_=-`);
const DIGIT = characterSet(DIGITS);

/** A run of at least so many characters of a set. */
type Run = readonly [set: CharacterSet, min: number];

export interface Shape {
  readonly kind: string;
  /** What it begins with (3 characters or more), or, with `lead`, what comes after that. */
  readonly trigger: string;
  readonly rest: readonly (string | Run)[];
  /** Its beginning is short enough to be part of a word: nothing of its set may stand before it. */
  readonly isLoose: boolean;
  /** What stands before the trigger and belongs to it. */
  readonly lead?: Run;
}

const strong = (kind: string, trigger: string, ...rest: Shape["rest"]): Shape => {
  return { kind, trigger, rest, isLoose: false };
};
const loose = (kind: string, trigger: string, ...rest: Shape["rest"]): Shape => {
  return { kind, trigger, rest, isLoose: true };
};

/** Of several with one beginning, the longer one first. */
export const SHAPES: readonly Shape[] = [
  // Model providers, and our own keys.
  loose("anthropic_key", "sk-ant-", [WORD, 20]),
  loose("openrouter_key", "sk-or-v1-", [HEX, 32]),
  loose("openai_key", "sk-proj-", [WORD, 20]),
  loose("openai_key", "sk-svcacct-", [WORD, 20]),
  loose("openai_key", "sk-admin-", [WORD, 20]),
  loose("langfuse_key", "sk-lf-", [WORD, 20]),
  loose("provider_key", "sk-", [ALNUM, 20]),
  loose("virtual_key", "ak-", [WORD, 40]),
  loose("allocation_token", "at-", [WORD, 43]),
  loose("enrolment_token", "et-", [DOTTED, 150]),
  loose("groq_key", "gsk_", [ALNUM, 40]),
  loose("xai_key", "xai-", [ALNUM, 40]),
  loose("perplexity_key", "pplx-", [ALNUM, 32]),
  loose("huggingface_token", "hf_", [ALNUM, 30]),
  strong("huggingface_token", "api_org_", [ALNUM, 30]),
  loose("replicate_token", "r8_", [ALNUM, 36]),
  loose("cerebras_key", "csk-", [ALNUM, 32]),
  strong("nvidia_key", "nvapi-", [WORD, 40]),
  strong("together_key", "tgp_v1_", [WORD, 30]),
  loose("fireworks_key", "fw_", [ALNUM, 22]),
  strong("tavily_key", "tvly-", [WORD, 20]),
  strong("pinecone_key", "pcsk_", [WORD, 30]),
  strong("langsmith_key", "lsv2_pt_", [HEX, 32]),
  strong("langsmith_key", "lsv2_sk_", [HEX, 32]),
  // Forges and registries.
  strong("github_token", "github_pat_", [WORD, 40]),
  strong("github_token", "ghp_", [ALNUM, 30]),
  strong("github_token", "gho_", [ALNUM, 30]),
  strong("github_token", "ghu_", [ALNUM, 30]),
  strong("github_token", "ghs_", [ALNUM, 30]),
  strong("github_token", "ghr_", [ALNUM, 30]),
  strong("gitlab_token", "glpat-", [DOTTED, 20]),
  strong("gitlab_token", "gldt-", [WORD, 20]),
  strong("gitlab_token", "glrt-", [WORD, 20]),
  strong("gitlab_token", "glcbt-", [WORD, 20]),
  strong("gitlab_token", "glptt-", [WORD, 20]),
  strong("gitlab_token", "glft-", [WORD, 20]),
  strong("gitlab_token", "glsoat-", [WORD, 20]),
  strong("gitlab_token", "glagent-", [WORD, 20]),
  loose("bitbucket_token", "ATBB", [ALNUM, 28]),
  strong("atlassian_token", "ATATT3", [PADDED, 50]),
  strong("npm_token", "npm_", [ALNUM, 30]),
  strong("pypi_token", "pypi-AgE", [WORD, 30]),
  strong("rubygems_token", "rubygems_", [HEX, 32]),
  loose("crates_token", "cio", [ALNUM, 32]),
  loose("nuget_key", "oy2", [ALNUM, 43]),
  strong("docker_token", "dckr_pat_", [WORD, 20]),
  strong("docker_token", "dckr_oat_", [WORD, 20]),
  // Clouds and platforms.
  loose("aws_access_key", "AKIA", [CAPITALS, 16]),
  loose("aws_access_key", "ASIA", [CAPITALS, 16]),
  loose("aws_access_key", "ABIA", [CAPITALS, 16]),
  loose("google_key", "AIza", [WORD, 35]),
  strong("google_token", "ya29.", [DOTTED, 20]),
  strong("google_secret", "GOCSPX-", [WORD, 20]),
  loose("google_token", "1//0", [WORD, 30]),
  strong("azure_key", "AccountKey=", [PADDED, 40]),
  strong("azure_key", "SharedAccessKey=", [PADDED, 20]),
  { ...strong("azure_secret", "8Q~", [DOTTED, 30]), lead: [DOTTED, 3] },
  strong("digitalocean_token", "dop_v1_", [HEX, 40]),
  strong("digitalocean_token", "doo_v1_", [HEX, 40]),
  strong("digitalocean_token", "dor_v1_", [HEX, 40]),
  loose("alibaba_key", "LTAI", [ALNUM, 16]),
  loose("tencent_key", "AKID", [ALNUM, 28]),
  strong("cloudflare_key", "v1.0-", [HEX, 24], "-", [HEX, 100]),
  strong("heroku_key", "HRKU-", [WORD, 30]),
  strong("fly_token", "FlyV1 ", [PADDED, 30]),
  strong("netlify_token", "nfp_", [ALNUM, 30]),
  strong("supabase_token", "sbp_", [HEX, 40]),
  strong("planetscale_token", "pscale_tkn_", [WORD, 30]),
  strong("planetscale_token", "pscale_pw_", [WORD, 30]),
  strong("doppler_token", "dp.pt.", [ALNUM, 40]),
  strong("doppler_token", "dp.st.", [DOTTED, 40]),
  strong("pulumi_token", "pul-", [HEX, 40]),
  strong("tailscale_key", "tskey-", [WORD, 20]),
  strong("vault_token", "hvs.", [WORD, 24]),
  strong("vault_token", "hvb.", [WORD, 24]),
  strong("vault_token", "hvr.", [WORD, 24]),
  { ...strong("terraform_token", ".atlasv1.", [WORD, 60]), lead: [ALNUM, 14] },
  loose("databricks_token", "dapi", [HEX, 32]),
  strong("age_key", "AGE-SECRET-KEY-1", [CAPITALS, 58]),
  // Messages, payments, tools.
  loose("slack_token", "xoxa-", [WORD, 10]),
  loose("slack_token", "xoxb-", [WORD, 10]),
  loose("slack_token", "xoxp-", [WORD, 10]),
  loose("slack_token", "xoxo-", [WORD, 10]),
  loose("slack_token", "xoxr-", [WORD, 10]),
  loose("slack_token", "xoxs-", [WORD, 10]),
  loose("slack_token", "xoxe.", [DOTTED, 20]),
  loose("slack_token", "xoxe-", [WORD, 10]),
  loose("slack_token", "xapp-", [WORD, 20]),
  strong("slack_webhook", "hooks.slack.com/services/", [BASE64, 20]),
  strong("discord_webhook", "/api/webhooks/", [DIGIT, 15], "/", [WORD, 40]),
  { ...strong("telegram_token", ":AA", [WORD, 32]), lead: [DIGIT, 8] },
  ...[..."0123456789abcdef"].map((digit) => loose("twilio_key", `SK${digit}`, [HEX, 31])),
  loose("sendgrid_key", "SG.", [WORD, 16], ".", [WORD, 30]),
  loose("mailgun_key", "key-", [HEX, 32]),
  { ...strong("mailchimp_key", "-us", [DIGIT, 1]), lead: [HEX, 32] },
  strong("stripe_key", "sk_live_", [ALNUM, 16]),
  strong("stripe_key", "sk_test_", [ALNUM, 16]),
  strong("stripe_key", "rk_live_", [ALNUM, 16]),
  strong("stripe_key", "rk_test_", [ALNUM, 16]),
  strong("webhook_secret", "whsec_", [PADDED, 24]),
  loose("elevenlabs_key", "sk_", [HEX, 40]),
  strong("square_token", "sq0atp-", [WORD, 20]),
  strong("square_token", "sq0csp-", [WORD, 20]),
  strong("shopify_token", "shpat_", [HEX, 32]),
  strong("shopify_token", "shpca_", [HEX, 32]),
  strong("shopify_token", "shppa_", [HEX, 32]),
  strong("shopify_token", "shpss_", [HEX, 32]),
  strong("grafana_token", "glsa_", [ALNUM, 32]),
  loose("grafana_token", "glc_", [PADDED, 32]),
  strong("newrelic_key", "NRAK-", [CAPITALS, 27]),
  strong("sentry_token", "sntrys_", [PADDED, 30]),
  strong("sentry_token", "sntryu_", [HEX, 40]),
  strong("linear_key", "lin_api_", [ALNUM, 30]),
  strong("notion_token", "ntn_", [ALNUM, 40]),
  loose("notion_token", "secret_", [ALNUM, 43]),
  strong("figma_token", "figd_", [WORD, 30]),
  strong("postman_key", "PMAK-", [HEX, 24], "-", [HEX, 30]),
  loose("airtable_token", "pat", [ALNUM, 14], ".", [HEX, 60]),
  strong("buildkite_token", "bkua_", [HEX, 40]),
  strong("circleci_token", "CCIPAT_", [WORD, 30]),
  strong("dynatrace_token", "dt0c01.", [CAPITALS, 24], ".", [CAPITALS, 60]),
  strong("onepassword_token", "ops_eyJ", [PADDED, 100]),
  loose("jwt", "eyJ", [WORD, 8], ".", [WORD, 8], ".", [WORD, 8]),
];
