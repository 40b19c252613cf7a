export default { base: '/admin/' };
