#include "reinforce/job/job_reference.h"

#include "reinforce/job/job.h"
#include "reinforce/job/job_value.h"

static const char introduction[] =
    "# The job file\n"
    "\n"
    "One YAML file says everything about a job. It is checked as a whole before anything starts: "
    "an\n"
    "unknown key, a wrong value or an impossible combination ends the command with exit code 2 "
    "and\n"
    "a message that names file, line, column and key. `configs/` has job files that run as they\n"
    "are. This page is made from the program's own table: `reinforce help --job-file`.\n"
    "\n"
    "The smallest useful job:\n"
    "\n"
    "```yaml\n"
    "input:\n"
    "  url: images\n"
    "output:\n"
    "  url: dataset\n"
    "captioners:\n"
    "  - model: models/mobileclip2_coca\n"
    "teachers:\n"
    "  - model: models/DFN2B-CLIP-ViT-L-14\n"
    "```\n"
    "\n"
    "## How values are written\n"
    "\n"
    "- **Text** as it is; quotes are needed only where YAML needs them. Paths are relative to the\n"
    "  folder the command is given in. `${...}` is not expanded.\n"
    "- **Numbers** without quotes. Nothing may follow them.\n"
    "- **Bytes** as a whole number and one of `B`, `KiB`, `MiB`, `GiB`, `TiB`: `512MiB`. A bare "
    "`0`\n"
    "  is fine.\n"
    "- **Durations** as a whole number and one of `ms`, `s`, `min`, `h`: `500ms`, `30s`.\n"
    "- A key without a value (or `null`) counts as not given.\n"
    "- Anchors, aliases, tags, repeated keys and second documents are refused.\n"
    "\n"
    "## Order of precedence\n"
    "\n"
    "Defaults, then the job file, then `--set PATH=VALUE` on the command line, in the order "
    "given:\n"
    "\n"
    "    reinforce run --set workers.count=4 --set 'teachers[0].model=/models/a' job.yaml\n"
    "\n"
    "An index one past the end of a list appends. A value that begins with `[` or `{` is read as\n"
    "YAML, so that whole lists can be given. No environment variable changes what a "
    "job\n"
    "makes; those of AWS tools (`AWS_*`) may say where stores are and hold the keys to them, since "
    "a job\n"
    "file holds no secrets.\n"
    "\n"
    "## The digest\n"
    "\n"
    "Keys marked *result* decide the bytes of the output. They, and only they, go into the job's\n"
    "digest; a job is resumed only when it is the same, and the message names each difference\n"
    "otherwise. The other keys may change from run to run. The effective configuration, with "
    "every\n"
    "default filled in, is kept with the output as `_reinforce/job.json`; it is a valid job file\n"
    "itself. A newer build, which knows more keys, goes on with a job where those have their\n"
    "defaults.\n";

static enum status append_cell(const char *text, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (; *text != '\0' && st == ST_OK; text++) /* "<" would begin HTML, "|" end the cell */
        st = *text == '<'   ? byte_buf_append_string(out, "&lt;", err)
             : *text == '|' ? byte_buf_append_string(out, "\\|", err)
                            : byte_buf_append(out, text, 1, err);
    return st;
}

static enum status append_option(const struct job_option *option, struct byte_buf *out,
                                 struct error *err)
{
    const char *value = option->default_text;
    enum status st = byte_buf_printf(out, err, "| `%s` | ", option->key);

    if (st == ST_OK)
        st = job_value_describe(option, out, err);
    if (st == ST_OK && value == NULL)
        st = byte_buf_append_string(out, " | **required**", err);
    else if (st == ST_OK && value[0] == '\0')
        st = byte_buf_append_string(out, " | not set", err);
    else if (st == ST_OK)
        st = byte_buf_printf(out, err, " | `%s`", value);
    if (st == ST_OK)
        st = byte_buf_printf(out, err, " | %s | ", option->changes_results ? "result" : "");
    if (st == ST_OK)
        st = append_cell(option->help, out, err);
    return st == ST_OK ? byte_buf_append_string(out, " |\n", err) : st;
}

static enum status append_section(const struct job_section *section, struct byte_buf *out,
                                  struct error *err)
{
    bool top = section->name[0] == '\0';
    enum status st =
        byte_buf_printf(out, err, "\n## %s%s%s\n\n%s", top ? "" : "`",
                        top ? "Top level" : section->name, top ? "" : "`", section->help);

    if (st == ST_OK && section->element_size > 0)
        st = byte_buf_printf(out, err, " At most %zu.", section->max_elements);
    if (st == ST_OK)
        st = byte_buf_append_string(out,
                                    "\n\n| key | value | default | changes | meaning |\n"
                                    "|---|---|---|---|---|\n",
                                    err);
    for (size_t i = 0; i < section->n_options && st == ST_OK; i++)
        st = append_option(&section->options[i], out, err);
    return st;
}

enum status job_reference_write(const char *before, const struct job_schema *schema,
                                struct byte_buf *out, struct error *err)
{
    enum status st = byte_buf_append_string(out, before, err);

    for (size_t i = 0; i < schema->n_sections && st == ST_OK; i++)
        st = append_section(&schema->sections[i], out, err);
    return st;
}

enum status job_write_reference(struct byte_buf *out, struct error *err)
{
    return job_reference_write(introduction, &job_file_schema, out, err);
}
