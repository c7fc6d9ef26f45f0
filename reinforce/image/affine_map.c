/* Shared by the fast operators and their plain twins: what is tested is the loops, and these few
 * numbers are tested against Pillow through them. */
#include "reinforce/image/augment_ops.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* Python's round(v, 15) for |v| <= 1: nearest multiple of 1e-15, decided on the exact product. */
static double round_15(double v)
{
    double product = v * 1e15;
    double lost = fma(v, 1e15, -product);
    double whole = rint(product);
    double rest = product - whole + lost;

    if (rest > 0.5)
        whole += 1.0;
    else if (rest < -0.5)
        whole -= 1.0;
    return whole / 1e15;
}

/* As torchvision asks for it: the angle of the shear goes through degrees and back. */
static double shear_angle(double magnitude)
{
    double degrees = atan(magnitude) * (180.0 / pi);

    return degrees * (pi / 180.0);
}

static void rotation(double magnitude, int width, int height, double m[6])
{
    double cx = width / 2.0, cy = height / 2.0;
    double degrees = fmod(magnitude, 360.0);
    double radians;

    if (degrees < 0.0)
        degrees += 360.0;
    radians = -(degrees * (pi / 180.0));
    m[0] = round_15(cos(radians));
    m[1] = round_15(sin(radians));
    m[3] = round_15(-sin(radians));
    m[4] = round_15(cos(radians));
    m[2] = m[0] * -cx + m[1] * -cy + 0.0 + cx;
    m[5] = m[3] * -cx + m[4] * -cy + 0.0 + cy;
}

void affine_map_of(enum augment_op op, double magnitude, int width, int height,
                   struct affine_map *map)
{
    double *m = map->m;
    double angle;

    memset(map, 0, sizeof *map);
    m[0] = m[4] = 1.0;
    if (op == AUGMENT_SHEAR_X) {
        m[1] = tan(shear_angle(magnitude)); /* cos(0) tan(s) / cos(0) */
    } else if (op == AUGMENT_SHEAR_Y) {
        angle = shear_angle(magnitude);
        m[4] = cos(-angle) / cos(angle);
        m[3] = -(sin(-angle) / cos(angle));
    } else if (op == AUGMENT_TRANSLATE_X) {
        m[2] = -trunc(magnitude);
    } else if (op == AUGMENT_TRANSLATE_Y) {
        m[5] = -trunc(magnitude);
    } else {
        rotation(magnitude, width, height, m);
    }
}

static bool corner_fits(const double m[6], int x, int y)
{
    return fabs(x * m[0] + y * m[1] + m[2]) < 32768.0 && fabs(x * m[3] + y * m[4] + m[5]) < 32768.0;
}

bool affine_map_fits_fixed(const struct affine_map *map, int width, int height)
{
    return corner_fits(map->m, 0, 0) && corner_fits(map->m, width, height) &&
           corner_fits(map->m, 0, height) && corner_fits(map->m, width, 0);
}

int64_t affine_fixed(double v)
{
    return (int64_t)floor(v * 65536.0 + 0.5);
}
