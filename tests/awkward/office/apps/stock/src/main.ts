import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { StockModule } from './stock.module';

async function bootstrap() {
  const app = await NestFactory.create(StockModule);
  app.enableShutdownHooks();
  await app.listen(process.env.PORT ?? 3000, '127.0.0.1');
}
void bootstrap();
