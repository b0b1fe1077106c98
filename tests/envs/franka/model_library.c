/* Kinematics of a Panda as the version 5 controller serves it: compiled by the tests, sent over the wire.
 *
 * Frames follow from Franka's public Denavit-Hartenberg parameters (Craig's convention).  Matrices are column major.
 * Dynamics: the fake arm carries its own weight, and at the test's speeds Coriolis terms are below 0.1 Nm, so both
 * are zero; the mass matrix is a constant diagonal.  Enough for Cartesian impedance, not for model-based control.
 */
#include <math.h>
#include <string.h>

#define FRAMES 8 /* seven joints and the flange */
static const double A[FRAMES] = {0, 0, 0, 0.0825, -0.0825, 0, 0.088, 0};
static const double D[FRAMES] = {0.333, 0, 0.316, 0, 0.384, 0, 0, 0.107};
static const double TWIST[FRAMES] = {0, -1, 1, 1, -1, 1, 1, 0}; /* quarter turns */

static void multiply(const double *left, const double *right, double *out) {
  double product[16];
  for (int c = 0; c < 4; c++)
    for (int r = 0; r < 4; r++) {
      product[4 * c + r] = 0;
      for (int k = 0; k < 4; k++) product[4 * c + r] += left[4 * k + r] * right[4 * c + k];
    }
  memcpy(out, product, sizeof product);
}

/* Frames 1..count (8: flange, 9: end effector) in the base; frames[i] is frame i + 1. */
static void chain(const double *q, const double *flange_T_ee, int count, double frames[9][16]) {
  double here[16] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
  for (int i = 0; i < count; i++) {
    if (i == 8) {
      multiply(here, flange_T_ee, frames[8]);
      return;
    }
    double angle = i < 7 ? q[i] : 0, ct = cos(angle), st = sin(angle);
    double ca = TWIST[i] == 0 ? 1 : 0, sa = TWIST[i];
    double link[16] = {ct, st * ca, st * sa, 0, -st, ct * ca, ct * sa, 0,
                       0, -sa, ca, 0, A[i], -sa * D[i], ca * D[i], 1};
    multiply(here, link, here);
    memcpy(frames[i], here, sizeof here);
  }
}

static void zero_jacobian(const double *q, const double *flange_T_ee, int frame, double *out) {
  double frames[9][16];
  chain(q, flange_T_ee, frame, frames);
  const double *tip = frames[frame - 1] + 12;
  memset(out, 0, 42 * sizeof(double));
  for (int j = 0; j < 7 && j < frame; j++) {
    const double *axis = frames[j] + 8, *origin = frames[j] + 12;
    double arm[3] = {tip[0] - origin[0], tip[1] - origin[1], tip[2] - origin[2]};
    out[6 * j + 0] = axis[1] * arm[2] - axis[2] * arm[1];
    out[6 * j + 1] = axis[2] * arm[0] - axis[0] * arm[2];
    out[6 * j + 2] = axis[0] * arm[1] - axis[1] * arm[0];
    memcpy(out + 6 * j + 3, axis, 3 * sizeof(double));
  }
}

static void body_jacobian(const double *q, const double *flange_T_ee, int frame, double *out) {
  double frames[9][16], base[42];
  chain(q, flange_T_ee, frame, frames);
  zero_jacobian(q, flange_T_ee, frame, base);
  const double *turn = frames[frame - 1];
  for (int j = 0; j < 7; j++)
    for (int half = 0; half < 2; half++)
      for (int r = 0; r < 3; r++) {
        double sum = 0;
        for (int k = 0; k < 3; k++) sum += turn[4 * r + k] * base[6 * j + 3 * half + k];
        out[6 * j + 3 * half + r] = sum;
      }
}

static void pose(const double *q, const double *flange_T_ee, int frame, double *out) {
  double frames[9][16];
  chain(q, flange_T_ee, frame, frames);
  memcpy(out, frames[frame - 1], 16 * sizeof(double));
}

#define JOINT(n)                                                                       \
  void O_T_J##n(const double *q, double *out) { pose(q, 0, n, out); }                  \
  void O_J_J##n(const double *q, double *out) { zero_jacobian(q, 0, n, out); }         \
  void Ji_J_J##n(const double *q, double *out) { body_jacobian(q, 0, n, out); }
JOINT(2) JOINT(3) JOINT(4) JOINT(5) JOINT(6) JOINT(7) JOINT(8)

/* The first joint's Jacobians do not depend on the joints and take no argument for them. */
static const double STILL[7] = {0};
void O_T_J1(const double *q, double *out) { pose(q, 0, 1, out); }
void O_J_J1(double *out) { zero_jacobian(STILL, 0, 1, out); }
void Ji_J_J1(double *out) { body_jacobian(STILL, 0, 1, out); }

void O_T_J9(const double *q, const double *flange_T_ee, double *out) { pose(q, flange_T_ee, 9, out); }
void O_J_J9(const double *q, const double *flange_T_ee, double *out) { zero_jacobian(q, flange_T_ee, 9, out); }
void Ji_J_J9(const double *q, const double *flange_T_ee, double *out) { body_jacobian(q, flange_T_ee, 9, out); }

void M_NE(const double *q, const double *inertia, double mass, const double *centre, double *out) {
  (void)q, (void)inertia, (void)mass, (void)centre;
  memset(out, 0, 49 * sizeof(double));
  for (int j = 0; j < 7; j++) out[8 * j] = j < 4 ? 1.0 : 0.2;
}
void c_NE(const double *q, const double *dq, const double *inertia, double mass, const double *centre, double *out) {
  (void)q, (void)dq, (void)inertia, (void)mass, (void)centre;
  memset(out, 0, 7 * sizeof(double));
}
void g_NE(const double *q, const double *gravity, double mass, const double *centre, double *out) {
  (void)q, (void)gravity, (void)mass, (void)centre;
  memset(out, 0, 7 * sizeof(double));
}
