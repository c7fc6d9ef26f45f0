/* A hub's listing of a repository, and pulled.json: whatever is chosen from the one or looked for
 * by the other stays in its folder. Includes the source, whose readers are its own. */
#include "storage/hub/hub.c"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_as_listing(struct bytes_view text)
{
    struct pull p = {.id = "a/b", .revision = "main"};
    struct error err = {0};

    if (read_listing(&p, text, &err) == ST_OK && choose_files(&p, &err) == ST_OK) {
        bool weights = false;

        assert(strchr(p.commit, '/') == NULL && p.commit[0] != '.' &&
               strcmp(p.commit, "refs") != 0);
        for (size_t i = 0; i < p.n_files; i++) {
            const char *name = p.files[i].name;

            assert(name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL);
            assert(strcmp(name, "pulled.json") != 0);
            weights = weights || snapshot_is_weights(name);
        }
        assert(weights);
    }
    free(p.files);
    json_decref(p.listing);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes_view text = bytes_view_of(data, size);
    struct error err = {0};
    size_t n_files = 0;
    enum status st;

    if (size > 65536)
        return 0;
    read_as_listing(text);
    st = check_marks("/nowhere", text, &n_files, &err); /* no file of it is there */
    assert(st != ST_OK && n_files == 0 && err.message[0] != '\0');
    return 0;
}
