#include "cli/curator_args.h"

#include <string.h>

static int run(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";

    if (strcmp(word, "serve") == 0)
        return curator_serve(argc - 1, argv + 1);
    if (strcmp(word, "status") == 0)
        return curator_status(argc - 1, argv + 1);
    if (strcmp(word, "replay") == 0)
        return curator_replay(argc - 1, argv + 1);
    if (strcmp(word, "teacher") == 0)
        return curator_teacher(argc - 1, argv + 1);
    return command_usage(&cmd_curator, "say serve, status or replay");
}

/* clang-format off: as it is printed */
const struct command cmd_curator = {
    .name = "curator",
    .synopsis = "reinforce curator serve [--dataset URL] ... | status [ADDRESS] | replay LOG",
    .summary = "selects training batches for training jobs, beside them",
    .help = "serve answers training jobs that send a super-batch as their model sees it: it\n"
            "selects the examples to train on, by SigLIP 2's learnability or another\n"
            "criterion. Any number of trainers may ask; what cannot be selected by its\n"
            "deadline is answered with a seeded random batch, so that training never waits.\n"
            "The client for Python is in docs/curator-client, the protocol in\n"
            "docs/curator-protocol.md.\n"
            "status prints what a curator has answered, and how. replay selects again what\n"
            "LOG says was selected, on any machine, and tells whether it is the same, index\n"
            "by index; of a log without inputs it checks that it is whole.\n"
            "With --compute, examples that no dataset has are embedded when somebody asks for\n"
            "them, by a process of its own (`curator teacher`), and kept: half of a request's\n"
            "time is for that, and what is not there by then is there the next time.\n"
            "\n"
            "Options:\n"
            "  --bind ADDRESS     where trainers come; default " CURATOR_ADDRESS "\n"
            "  --dataset URL      a dataset that `reinforce run` has written: its embeddings\n"
            "                     are the reference's; none, the default: requests bring them\n"
            "  --teacher NAME     whose embeddings, when the dataset has several\n"
            "  --column NAME      captions, the first of each example: syn_text_coca;\n"
            "                     default: the real one\n"
            "  --compute JOB.yaml embeds what the dataset has not, or all without one, as that\n"
            "                     job would: its input, one teacher of it, its views\n"
            "  --set PATH=VALUE   overrides one value of that job; may be repeated\n"
            "  --cache DIR        keeps what was gathered and computed; default\n"
            "                     ~/.cache/reinforce/references\n"
            "  --scale X, --bias X  of the teacher's logits, where the dataset does not say\n"
            "  --deadline MS      of requests that have none, and the longest any has\n"
            "  --log FILE         adds every selection to FILE\n"
            "  --log-inputs       and what it was selected from: hundreds of megabytes each;\n"
            "                     only these can be selected again\n"
            "  --all              replay: prints every selection, not only those that differ\n"
            "  --threads N        of one selection; default: one for each processor\n"
            "  --selections N     selections at a time; default 1\n"
            "  --max-request MIB  of one request; default 1024: 65,536 examples of 768\n"
            "                     dimensions take 193 as bfloat16 and 385 as float32\n"
            "  --max-waiting MIB  of requests that wait; beyond, answers are random and at\n"
            "                     once; default 4096\n"
            "  --keys FILE        coordinator.key of `reinforce keys new`: messages are\n"
            "                     encrypted; for status, worker.key\n"
            "  --allow FILE       public keys of the trainers that may come, one a line\n"
            "  --insecure         lets it be reached from elsewhere without keys\n"
            "  -v, --verbose      logs every selection to standard error\n" STORE_ARGS_HELP "\n"
            "Examples:\n"
            "  reinforce curator serve --deadline 2000 --log selections.log\n"
            "  reinforce curator serve --dataset build/quickstart/dataset --teacher clip-b\n"
            "  reinforce curator serve --compute configs/quickstart.yaml --teacher clip-b\n"
            "  reinforce curator status\n"
            "  reinforce curator replay --dataset build/quickstart/dataset selections.log\n"
            "\n"
            "Exit codes:\n"
            "  0  done; told to stop, by SIGTERM or Ctrl-C\n"
            "  1  it could not go on; nobody answers; a selection differs, a log is damaged\n"
            "  2  usage\n",
    .run = run,
};
/* clang-format on */
